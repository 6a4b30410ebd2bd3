//! What a guest does to the driver domain by netif.

mod cve_2026_45890;
mod netback_kills;
mod xsa_155;
mod xsa_216;
mod xsa_300;
mod xsa_331;
mod xsa_332;
mod xsa_374;
mod xsa_39;
mod xsa_392;
mod xsa_423;
mod xsa_424;
mod xsa_432;
mod xsa_448;

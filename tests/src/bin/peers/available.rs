//! What of the peers is there, and what to install for the others.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::contender::Contender;
use super::dpdk::HUGE_PAGES;
use super::programs::{Program, is_installed};
use super::restore::Changes;

/// Why some of those that were asked for cannot be measured. Builds what can be built, and has the
/// system set aside what they need.
pub fn missing(asked: &[Contender], changes: &Changes) -> BTreeMap<Contender, String> {
    let of_dpdk = |contender: &Contender| {
        use Contender::*;
        matches!(contender, VhostSplit | VhostPacked | MemifToServer | MemifToClient)
    };
    let of_kernel = |contender: &Contender| contender.is_peer() && !of_dpdk(contender);
    let mut missing = BTreeMap::new();
    if asked.iter().any(of_dpdk)
        && let Err(cause) = dpdk(changes)
    {
        let these = asked.iter().copied().filter(of_dpdk);
        missing.extend(these.map(|contender| (contender, format!("{cause:#}"))));
    }
    if asked.iter().any(of_kernel)
        && let Err(cause) = kernel()
    {
        let these = asked.iter().copied().filter(of_kernel);
        missing.extend(these.map(|contender| (contender, format!("{cause:#}"))));
    }
    missing
}

fn dpdk(changes: &Changes) -> Result<()> {
    Program::Dpdk.build()?;
    changes.need_huge_pages(HUGE_PAGES)
}

/// What the kernel's paths need.
pub fn kernel() -> Result<()> {
    ensure!(is_installed("ip") && is_installed("bridge"), "install iproute2");
    ensure!(nix::unistd::geteuid().is_root(), "run it as root, for network namespaces");
    Program::Kernel.build()
}

//! The command line: what can be asked for, and what is wrong with what was asked.

mod capture;
mod host;
pub mod mechanisms;
mod mixed;
mod mover;
mod nic;
mod plot;
mod store;
mod sweep;
mod tap;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use xenvelope_switch::MacAddress;

use crate::host::{GuestSpec, HostSpec};
use crate::measure::{FrameSize, Limits, NotUnder, RouteName, exists_under};
use crate::nic::NicConfig;

pub use capture::CaptureArguments;
pub use host::{HostArguments, HostRefused};
pub use mixed::MixedArguments;
pub use mover::{Mover, MoverArguments, NoEngine};
pub use nic::{FunctionsChoice, NicArguments, NicChoice, TranslationChoice};
pub use plot::PlotArguments;
pub use store::StoreArguments;
pub use sweep::SweepArguments;
pub use tap::{Interval, TapArguments, TapRoute};

/// A simulated Xen host that carries TCP between guests, by every route, and says what each
/// costs.
#[derive(Parser, Clone, Debug)]
#[command(name = "xenvelope-sim", version, about, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What else to do than to compare the routes.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The file to send [default: this program]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// Seconds for each cell, unless 256 MB are through before
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: Duration,

    /// Envelope guests, 1 to 200; of three or more the last has no VF, nor have those for whom
    /// none is left
    #[arg(long, value_name = "N", default_value = "4", value_parser = guests, allow_negative_numbers = true, conflicts_with = "guest")]
    pub guests: u16,

    /// An envelope guest: mac=02:00:00:00:00:01 or mac=...,vf; may be given more than once
    #[arg(long, value_name = "SPEC")]
    pub guest: Vec<GuestArgument>,

    /// The host.
    #[command(flatten)]
    pub host: HostArguments,

    /// Measure this route only; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub route: Vec<RouteName>,

    /// Measure at this frame size only, 576 to 65536 bytes; may be given more than once
    #[arg(long, value_name = "BYTES", value_parser = frame, allow_negative_numbers = true)]
    pub frame: Vec<FrameSize>,

    /// What the I/O bus carries in each direction [default: no limit]
    #[arg(long, value_name = "GBIT", value_parser = bus, allow_negative_numbers = true)]
    pub bus_gbit: Option<f64>,

    /// One JSON object instead of the table
    #[arg(long)]
    pub json: bool,
}

/// What else the program does.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Guests that are Linux itself: network namespaces with a TAP each, for ping, iperf3, curl
    Tap(TapArguments),
    /// Transfers at the same time over different routes: through the card, through the driver
    /// domain, and direct
    Mixed(MixedArguments),
    /// More and more guests, with a mesh of direct channels, a switch, and both: what a packet
    /// costs
    Sweep(SweepArguments),
    /// Measures everything and draws it: SVG files, one HTML page, and the data
    Plot(PlotArguments),
    /// Compares the grant mechanisms: cost, attacks, the card's switch, changes needed
    Mechanisms(mechanisms::Mechanisms),
}

/// A guest as it is given on the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuestArgument {
    mac: MacAddress,
    vf: bool,
}

impl FromStr for GuestArgument {
    type Err = String;
    fn from_str(text: &str) -> Result<GuestArgument, String> {
        let (mut mac, mut vf) = (None, false);
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("mac", _)) if mac.is_some() => return Err("mac is given twice".to_owned()),
                Some(("mac", value)) => {
                    let parsed = value.parse::<MacAddress>().map_err(|cause| cause.to_string())?;
                    if [[0; 6], NicConfig::default().pf_mac].contains(&parsed.0) {
                        return Err(format!("no guest can have the address {parsed}"));
                    }
                    mac = Some(parsed);
                }
                None if part == "vf" && vf => return Err("vf is given twice".to_owned()),
                None if part == "vf" => vf = true,
                _ => return Err(format!("{part:?} is neither mac=ADDRESS nor vf")),
            }
        }
        let mac = mac.ok_or("a guest needs mac=ADDRESS")?;
        Ok(GuestArgument { mac, vf })
    }
}

fn guests(text: &str) -> Result<u16, String> {
    let asked = text.parse().ok().filter(|guests| (1..=200).contains(guests));
    asked.ok_or_else(|| "give a whole number from 1 to 200".to_owned())
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give a time from 0.01 to 3600 seconds".to_owned()),
    }
}

pub(crate) fn frame(text: &str) -> Result<FrameSize, String> {
    let (min, max) = (FrameSize::MIN, FrameSize::MAX);
    text.parse()
        .ok()
        .and_then(FrameSize::new)
        .ok_or_else(|| format!("a frame has {min} to {max} bytes"))
}

fn bus(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(gbit) if (0.01..=100_000.0).contains(&gbit) => Ok(gbit),
        _ => Err("give a rate from 0.01 to 100000 Gbit/s".to_owned()),
    }
}

/// A cell ends when this many bytes are through, if its time has not run out before.
const ENOUGH: u64 = 256_000_000;
/// For how long round trips are measured in each cell.
const PINGS: Duration = Duration::from_millis(100);

impl Arguments {
    /// The host that is asked for.
    pub fn spec(&self) -> HostSpec {
        let vfs = self.host.card.vfs_for_guests();
        let mut guests: Vec<GuestSpec> = if self.guest.is_empty() {
            // From three on the last has none: a guest without a VF is part of a host. Fewer all
            // have one, so that two can meet in the card.
            let asked = usize::from(self.guests);
            let with_vf = if asked > 2 { asked - 1 } else { asked }.min(vfs);
            (0..usize::from(self.guests))
                .map(|index| {
                    GuestSpec::envelope(index, GuestSpec::numbered_mac(index), index < with_vf)
                })
                .collect()
        } else {
            let given = self.guest.iter().enumerate();
            given.map(|(index, asked)| GuestSpec::envelope(index, asked.mac, asked.vf)).collect()
        };
        guests.push(GuestSpec::stock());
        let nic = NicConfig { bus_gbit: self.bus_gbit, ..self.host.card.config() };
        self.host.spec(nic, guests)
    }

    /// The routes to measure.
    pub fn routes(&self) -> Vec<RouteName> {
        if self.route.is_empty() {
            let exists = |route: &RouteName| exists_under(*route, self.host.mechanism).is_ok();
            RouteName::ALL.into_iter().filter(exists).collect()
        } else {
            self.route.clone()
        }
    }

    /// What was asked for and does not exist, if anything.
    ///
    /// # Errors
    /// Why.
    pub fn check_routes(&self) -> Result<(), NotUnder> {
        self.route.iter().try_for_each(|route| exists_under(*route, self.host.mechanism))
    }

    /// The frame sizes to measure at.
    pub fn frames(&self) -> Vec<FrameSize> {
        if self.frame.is_empty() {
            [1500, FrameSize::MAX].into_iter().filter_map(FrameSize::new).collect()
        } else {
            self.frame.clone()
        }
    }

    /// When a cell is long enough.
    pub fn limits(&self) -> Limits {
        Limits { time: self.seconds, bytes: ENOUGH, pings: PINGS.min(self.seconds) }
    }
}

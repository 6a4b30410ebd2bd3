//! The card's switch on a slow I/O bus: envelopes against frames by DMA.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xenvelope_hypervisor_sim::host::{GuestSpec, Host, HostSpec};
use xenvelope_hypervisor_sim::machine::Costs;
use xenvelope_hypervisor_sim::measure::{Bench, Cell, FrameSize, Limits, RouteName};
use xenvelope_hypervisor_sim::nic::NicConfig;
use xenvelope_hypervisor_sim::stack::Payload;

use super::{Line, Measured, nothing};
use crate::bars::Asks;

/// The line.
pub const LINE: Line = Line {
    name: "nic-bus",
    describes: "the card's switch, bus of 16 Gbit/s, 64 KiB: envelopes against frames by DMA",
    asks: &[("TCP", Asks::AtLeast(4.0))],
    needs: nothing,
    run,
};

const BUS_GBIT: f64 = 16.0;

fn run(length: Duration, _: &Path) -> Result<Vec<Measured>> {
    let specs: Vec<GuestSpec> = (0..2)
        .map(|index| GuestSpec::envelope(index, GuestSpec::numbered_mac(index), true))
        .collect();
    let names: Vec<String> = specs.iter().map(|guest| guest.name.clone()).collect();
    let nic = NicConfig { bus_gbit: Some(BUS_GBIT), ..NicConfig::default() };
    let host = Host::start(&HostSpec::new(Costs::published(), nic, specs))?;
    host.wait_connected()?;
    let payload = Payload::read(&std::env::current_exe()?)?;
    let mut bench = Bench::new(&host, payload);
    let frame = FrameSize::new(FrameSize::MAX).context("64 KiB")?;
    let limits = Limits { time: length, bytes: u64::MAX, pings: Duration::ZERO };
    let mut rate = |route| -> Result<f64> {
        let cell = Cell { route, from: names[0].clone(), to: names[1].clone() };
        let result = bench.run(&cell, frame, limits)?;
        ensure!(result.sha256_ok, "what arrived by {route} is not what was sent");
        Ok(result.gbit_per_s)
    };
    Ok(vec![Measured {
        what: format!("TCP in frames of 64 KiB, bus of {BUS_GBIT} Gbit/s"),
        against: "frames by DMA".to_owned(),
        unit: "Gbit/s".to_owned(),
        ours: rate(RouteName::NicEnvelope)?,
        other: rate(RouteName::NicFrame)?,
    }])
}

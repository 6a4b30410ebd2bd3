//! The card's switch on a slow I/O bus: envelopes against frames by DMA.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use xenvelope_backend::PairRoute;
use xenvelope_hypervisor_sim::machine::Costs;
use xenvelope_hypervisor_sim::nic::NicConfig;

use super::{Line, Measured, nothing};
use crate::bars::Asks;
use crate::contender::Load;
use crate::ours::Pair;
use crate::two::Sides;

/// The line.
///
/// Frames as they are and no TCP: a stack on the guests' cores would be the limit, and not the bus.
/// The card takes them whole, so that frames by DMA cost as few descriptors as can be.
pub const LINE: Line = Line {
    name: "nic-bus",
    describes: "the card's switch, bus of 16 Gbit/s, 64 KiB: envelopes against frames by DMA",
    asks: &[("frames of", Asks::AtLeast(4.0))],
    needs: nothing,
    run,
};

const BUS_GBIT: f64 = 16.0;
const LOAD: Load = Load { length: 65535, burst: 8, full: true };

fn run(length: Duration, _: &Path) -> Result<Vec<Measured>> {
    let (ours, bus) = gbit(PairRoute::NicEnvelope, length / 2)?;
    ensure!(bus < 0.5, "envelopes put {bus:.2} bytes on the bus for each byte: they were frames");
    let (other, bus) = gbit(PairRoute::NicFrame, length / 2)?;
    ensure!(bus > 1.0, "frames put {bus:.2} bytes on the bus for each byte: they were envelopes");
    Ok(vec![Measured {
        what: format!("frames of {} B, bus of {BUS_GBIT} Gbit/s", LOAD.length),
        against: "frames by DMA".to_owned(),
        unit: "Gbit/s".to_owned(),
        ours,
        other,
    }])
}

/// Gbit/s by a route, and bytes on the bus, both directions, for each byte that arrived.
fn gbit(route: PairRoute, length: Duration) -> Result<(f64, f64)> {
    let card = NicConfig {
        vfs: 2,
        bus_gbit: Some(BUS_GBIT),
        max_frame: LOAD.length,
        rx_ring: 256,
        ..NicConfig::default()
    };
    let mut pair = Pair::connect_with(card, route, Costs::published(), Sides::Threads)?;
    let before = pair.card.total_counters().total();
    let [sent, received] = pair.run_by_card(LOAD, length)?;
    ensure!(received.frames > 0, "no frame arrived; {} were sent", sent.frames);
    ensure!(received.wrong == 0, "{} frames arrived changed or out of order", received.wrong);
    let bytes = received.frames as f64 * LOAD.length as f64;
    let seconds = received.elapsed_ns as f64 / 1e9;
    // The card has worked before and after the window, too: about as much as its time goes.
    let share = length.as_secs_f64() / (length + crate::window::WARM_UP).as_secs_f64();
    let bus = (pair.card.total_counters().total() - before) as f64 * share;
    Ok((bytes * 8.0 / seconds / 1e9, bus / bytes))
}

//! More and more guests, of which two pairs are active and the others connected and idle: what a
//! packet costs all of them together.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, ensure};
use xenvelope_backend::PairRoute;
use xenvelope_grant::seam::Host as _;
use xenvelope_hypervisor_sim::host::{GuestSpec, Host, HostSpec, User};
use xenvelope_hypervisor_sim::machine::Costs;
use xenvelope_hypervisor_sim::measure::Sample;
use xenvelope_hypervisor_sim::nic::NicConfig;
use xenvelope_hypervisor_sim::stack::{Exchange, Pattern};

use super::{Line, Measured, nothing};
use crate::bars::Asks;

/// The line.
pub const LINE: Line = Line {
    name: "many-guests",
    describes: "processor time for each packet, two pairs active, 200 guests against 4",
    asks: &[("idle", Asks::AtMost(1.3))],
    needs: nothing,
    run,
};

/// Active guests.
const ACTIVE: usize = 4;
/// Frames of a guest to its partner in each turn.
const BUSY: usize = 32;
/// Bytes of a frame.
const FRAME: usize = 1514;
/// Before anything is counted.
const WARM_UP: Duration = Duration::from_millis(200);

fn run(length: Duration, _: &Path) -> Result<Vec<Measured>> {
    let (few, _) = cost(ACTIVE, ACTIVE, length)?;
    let mut measured = Vec::new();
    // In a run that is only to show that it runs there are few.
    let short = length < Duration::from_millis(100);
    let (some, many) = if short { (6, 8) } else { (50, 200) };
    for guests in [some, many] {
        let (all, active) = cost(guests, ACTIVE, length)?;
        let figure = |what: String, ours: f64, other: f64| Measured {
            what,
            against: format!("{ACTIVE} guests"),
            unit: "ns".to_owned(),
            ours,
            other,
        };
        measured.push(figure(format!("idle but two pairs, {guests} guests"), all, few));
        let what = format!("the active guests and the driver domain of {guests} guests");
        measured.push(figure(what, active, few));
    }
    let (all, _) = cost(some, some, length)?;
    measured.push(Measured {
        what: format!("all active, {some} guests"),
        against: format!("{ACTIVE} guests"),
        unit: "ns".to_owned(),
        ours: all,
        other: few,
    });
    Ok(measured)
}

/// Processor time for each packet in nanoseconds: of all domains, and of those that are active and
/// the driver domain.
fn cost(guests: usize, active: usize, length: Duration) -> Result<(f64, f64)> {
    let specs = (0..guests)
        .map(|index| GuestSpec::envelope(index, GuestSpec::numbered_mac(index), false))
        .collect();
    let nic = NicConfig { vfs: 0, ..NicConfig::default() };
    let host = Host::start(&HostSpec::new(Costs::published(), nic, specs))?;
    host.wait_connected()?;
    host.driver_domain.call(|backend| backend.manager().set_all_routes(PairRoute::Switch))?;
    let pattern = Arc::new(Pattern {
        macs: host.guests[..active].iter().map(|guest| guest.mac).collect(),
        busy: BUSY,
        light: 0,
        frame: FRAME,
    });
    let stop = Arc::new(AtomicBool::new(false));
    for (me, guest) in host.guests[..active].iter().enumerate() {
        let (pattern, stop) = (Arc::clone(&pattern), Arc::clone(&stop));
        guest.call(move |guest| {
            let now = guest.frontend.host().now();
            guest.user = User::Exchange(Exchange::new(pattern, me, stop, now));
        })?;
    }
    std::thread::sleep(WARM_UP);
    let before = Sample::take(&host)?;
    std::thread::sleep(length);
    let after = Sample::take(&host)?;
    stop.store(true, Relaxed);
    let packets = after.sent(&before);
    ensure!(packets > 0, "no packet was sent among {guests} guests");
    let cpu = after.cpu(&before);
    let each = |time: Duration| time.as_nanos() as f64 / packets as f64;
    let names: Vec<&str> = host.guests[..active].iter().map(|guest| guest.name.as_str()).collect();
    let active_time: Duration = cpu
        .guests
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(_, time)| *time)
        .sum();
    Ok((each(cpu.domains()), each(active_time + cpu.driver_domain)))
}

//! What a mechanism costs: transfers on a host of its own.

use xenvelope_grant::seam::Mechanism;

use super::scene::mac;
use super::{CompareError, Plan};
use crate::host::{GuestKind, GuestSpec, Host, HostSpec};
use crate::measure::{Bench, CellResult, RouteName, exists_under, plan};
use crate::nic::NicConfig;
use crate::stack::Payload;

/// What a transfer cost. All of it is measured or counted in the run.
#[derive(Clone, PartialEq, Debug)]
pub struct Cost {
    /// By which route.
    pub route: RouteName,
    /// Bytes of a frame, as they were asked for.
    pub frame_bytes: usize,
    /// Gbit/s of payload.
    pub gbit_per_s: f64,
    /// Nanoseconds for each frame of the sending stack.
    pub ns_per_packet: f64,
    /// Calls into the hypervisor for each, by everybody.
    pub hypercalls_per_packet: f64,
    /// Entries of grant tables made valid for each, by everybody.
    pub grants_per_packet: f64,
    /// Entries taken back for each, by everybody.
    pub revokes_per_packet: f64,
    /// Bytes moved by processors over bytes of frames that were not inlined.
    pub copies_per_packet: f64,
    /// Whether every pass of the payload had the right SHA-256.
    pub sha256_ok: bool,
}

/// Bytes of what is sent, again and again.
const PAYLOAD: usize = 4 << 20;

/// Routes on which a receiving guest reads what was granted by the mechanism.
pub fn routes_of(mechanism: Mechanism) -> impl Iterator<Item = RouteName> {
    let reads = |route: &RouteName| {
        matches!(
            route,
            RouteName::BridgeReceiverCopy
                | RouteName::SwitchEnvelope
                | RouteName::DirectEnvelope
                | RouteName::NicEnvelope
        )
    };
    let exists = move |route: &RouteName| exists_under(*route, mechanism).is_ok();
    RouteName::ALL.into_iter().filter(reads).filter(exists)
}

/// Runs all transfers of a mechanism.
pub(super) fn measure(asked: &Plan, mechanism: Mechanism) -> Result<Vec<Cost>, CompareError> {
    let guest = |name: &str, number: u8| GuestSpec {
        name: name.to_owned(),
        mac: mac(number),
        kind: GuestKind::Envelope,
        vf: true,
    };
    let nic = NicConfig { vfs: 2, ..NicConfig::default() };
    let guests = vec![guest("a", 1), guest("b", 2)];
    let host = Host::start(&HostSpec { mechanism, ..HostSpec::new(asked.costs, nic, guests) })?;
    host.wait_connected()?;
    let mut bench = Bench::new(&host, payload());
    let mut costs = Vec::new();
    for route in routes_of(mechanism) {
        // Two envelope guests with a VF each have all of these.
        for cell in plan(&host, route).unwrap_or_default() {
            for frame in &asked.frames {
                costs.push(Cost::of(&bench.run(&cell, *frame, asked.limits)?));
            }
        }
    }
    host.settle()?.map_err(crate::measure::MeasureError::from)?;
    Ok(costs)
}

/// Bytes that repeat nowhere near each other.
fn payload() -> Payload {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let words = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    Payload::new(words.flat_map(u64::to_le_bytes).take(PAYLOAD).collect())
}

impl Cost {
    fn of(cell: &CellResult) -> Cost {
        Cost {
            route: cell.cell.route,
            frame_bytes: cell.frame_bytes,
            gbit_per_s: cell.gbit_per_s,
            ns_per_packet: 1e9 / cell.packets_per_s,
            hypercalls_per_packet: cell.hypercalls_per_packet,
            grants_per_packet: cell.grants_per_packet,
            revokes_per_packet: cell.revokes_per_packet,
            copies_per_packet: cell.payload_copies_per_packet,
            sha256_ok: cell.sha256_ok,
        }
    }
}

//! Measuring everything that is drawn.

use std::time::Duration;

use xenvelope_grant::seam::Mechanism;

use crate::host::{GuestSpec, Host, HostSpec};
use crate::machine::Costs;
use crate::measure::{
    Bench, Cell, CellResult, FrameSize, Limits, MeasureError, RouteName, Sweep, SweepRow, Timeline,
    Topology, exists_under, plan, sweep_point, timeline,
};
use crate::mechanisms::routes_of;
use crate::nic::NicConfig;
use crate::stack::Payload;

use super::MechanismRow;

/// What is measured, and for how long.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan {
    /// Bytes of what is sent: more than a window, and few enough that a cell has a pass of them.
    pub payload: usize,
    /// Frame sizes, ascending.
    pub frames: Vec<FrameSize>,
    /// Bandwidths of the I/O bus, in Gbit/s of each direction, ascending.
    pub buses: Vec<f64>,
    /// How many guests the sweep has, ascending.
    pub guests: Vec<usize>,
    /// How long a cell is.
    pub cell: Duration,
    /// How long a part of the timeline is: longer than the second that TCP waits at least for
    /// what was lost.
    pub part: Duration,
    /// How long a round of the sweep is.
    pub sweep: Duration,
    /// Rounds of each timing.
    pub rounds: usize,
    /// Whether this is the short plan.
    pub quick: bool,
}

/// A pair of routes' transfers at one bandwidth of the bus.
#[derive(Clone, Debug)]
pub struct BusPoint {
    /// What the I/O bus carried in each direction, in Gbit/s.
    pub bus_gbit: f64,
    /// The transfer.
    pub cell: CellResult,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Every route at every frame size, round by round.
    pub cells: Vec<CellResult>,
    /// Frames and envelopes through a card behind a slower and slower bus, round by round.
    pub buses: Vec<BusPoint>,
    /// More and more guests.
    pub sweep: Vec<SweepRow>,
    /// A transfer over time.
    pub timeline: Option<Timeline>,
    /// Grant mechanisms, where they were measured.
    pub mechanisms: Vec<MechanismRow>,
}

/// The transfer of which frames and envelopes are compared behind a slow bus, in bytes a frame.
const BUS_FRAME: usize = 65536;
/// The transfers of which grant mechanisms are compared, in bytes a frame.
const MECHANISM_FRAME: usize = 1500;
/// What is sent in a turn of the sweep: see [`Sweep`].
const BUSY: usize = 32;
const LIGHT: usize = 8;

impl Plan {
    /// The plan for a paper, or the short one: the same figures with fewer points.
    pub fn new(quick: bool, rounds: usize) -> Plan {
        let sizes: &[usize] = if quick {
            &[576, 1500, 9000, 65536]
        } else {
            &[576, 1000, 1500, 3000, 4500, 9000, 16384, 32768, 65536]
        };
        let ms = Duration::from_millis;
        Plan {
            payload: if quick { 1 << 20 } else { 4 << 20 },
            frames: sizes.iter().filter_map(|bytes| FrameSize::new(*bytes)).collect(),
            buses: if quick {
                vec![1.0, 4.0, 16.0]
            } else {
                vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]
            },
            guests: if quick { vec![2, 4, 8] } else { vec![2, 4, 8, 16, 32] },
            cell: ms(if quick { 40 } else { 250 }),
            part: ms(if quick { 1300 } else { 1500 }),
            sweep: ms(if quick { 80 } else { 400 }),
            rounds,
            quick,
        }
    }

    /// Measures. `told` is told how many steps are done, of how many, and which is next.
    ///
    /// # Errors
    /// If a host does not come up, a connection breaks, or frames are missing afterwards.
    pub fn measure(
        &self,
        mut told: impl FnMut(usize, usize, &str),
    ) -> Result<Measured, MeasureError> {
        let steps = self.rounds * self.frames.len() * routes().count()
            + self.rounds * self.buses.len() * 2
            + self.guests.len() * Topology::ALL.len()
            + Mechanism::ALL.into_iter().flat_map(routes_of).count()
            + 1;
        let mut done = 0;
        let mut step = |what: &str| {
            told(done, steps, what);
            done += 1;
        };
        let payload = Payload::new(pattern(self.payload));
        let mut measured = Measured::default();
        self.cells(&payload, &mut measured, &mut step)?;
        self.behind_slow_buses(&payload, &mut measured, &mut step)?;
        let sweep = Sweep {
            costs: Costs::published(),
            busy: BUSY,
            light: LIGHT,
            frame: 1500,
            time: self.sweep,
            rounds: self.rounds,
        };
        for guests in &self.guests {
            for topology in Topology::ALL {
                step(&format!("{guests} guests, {}", topology.name()));
                measured.sweep.push(sweep_point(&sweep, *guests, topology)?);
            }
        }
        for mechanism in Mechanism::ALL {
            self.mechanism(mechanism, &payload, &mut measured, &mut step)?;
        }
        Ok(measured)
    }

    /// Every route on which a mechanism makes a difference, at the MTU.
    fn mechanism(
        &self,
        mechanism: Mechanism,
        payload: &Payload,
        measured: &mut Measured,
        step: &mut impl FnMut(&str),
    ) -> Result<(), MeasureError> {
        let Some(frame) = FrameSize::new(MECHANISM_FRAME) else { return Ok(()) };
        let host = start(None, mechanism)?;
        let mut bench = Bench::new(&host, payload.clone());
        for route in routes_of(mechanism) {
            step(&format!("{}: {}", mechanism.name(), route.name()));
            let cell = Cell { route, from: "a".to_owned(), to: "b".to_owned() };
            let rounds: Result<Vec<_>, _> =
                (0..self.rounds).map(|_| bench.run(&cell, frame, self.limits())).collect();
            measured.mechanisms.push(MechanismRow::of(mechanism, route, &rounds?));
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        Limits { time: self.cell, bytes: u64::MAX, pings: Duration::ZERO }
    }

    /// Every route at every frame size, all of them in every round: what slows the machine down
    /// for a while does not slow down one route. Then the transfer over time.
    fn cells(
        &self,
        payload: &Payload,
        measured: &mut Measured,
        step: &mut impl FnMut(&str),
    ) -> Result<(), MeasureError> {
        let host = start(None, Mechanism::Destination)?;
        let mut bench = Bench::new(&host, payload.clone());
        for round in 1..=self.rounds {
            for frame in &self.frames {
                for route in routes() {
                    let (name, bytes) = (route.name(), frame.bytes());
                    step(&format!("round {round}: {name}, {bytes} bytes"));
                    // The host has all that the routes need; of the two ways of `stock` the one
                    // from a guest with envelopes stands for both.
                    for cell in plan(&host, route).unwrap_or_default().iter().take(1) {
                        measured.cells.push(bench.run(cell, *frame, self.limits())?);
                    }
                }
            }
        }
        step("a transfer over time");
        if let Some(largest) = self.frames.last() {
            measured.timeline = timeline(&mut bench, *largest, self.part)?;
        }
        Ok(())
    }

    fn behind_slow_buses(
        &self,
        payload: &Payload,
        measured: &mut Measured,
        step: &mut impl FnMut(&str),
    ) -> Result<(), MeasureError> {
        let Some(frame) = FrameSize::new(BUS_FRAME) else { return Ok(()) };
        for bus_gbit in self.buses.iter().copied() {
            let host = start(Some(bus_gbit), Mechanism::Destination)?;
            let mut bench = Bench::new(&host, payload.clone());
            for round in 1..=self.rounds {
                for route in [RouteName::NicFrame, RouteName::NicEnvelope] {
                    step(&format!("round {round}: {}, bus {bus_gbit} Gbit/s", route.name()));
                    let cell = Cell { route, from: "a".to_owned(), to: "b".to_owned() };
                    let cell = bench.run(&cell, frame, self.limits())?;
                    measured.buses.push(BusPoint { bus_gbit, cell });
                }
            }
        }
        Ok(())
    }
}

impl Measured {
    /// Whether everything arrived as it was sent.
    pub fn all_right(&self) -> bool {
        self.cells.iter().all(|cell| cell.sha256_ok)
            && self.buses.iter().all(|point| point.cell.sha256_ok)
            && self.mechanisms.iter().all(|row| row.sha256_ok)
            && self.sweep.iter().all(|row| row.wrong == 0)
            && self.timeline.iter().all(|timeline| timeline.sha256_ok)
    }
}

/// The routes that are compared: those by which guests grant to whom they send.
fn routes() -> impl Iterator<Item = RouteName> {
    let exists = |route: &RouteName| exists_under(*route, Mechanism::Destination).is_ok();
    RouteName::ALL.into_iter().filter(exists)
}

/// Two guests with a VF, and a stock one.
fn start(bus_gbit: Option<f64>, mechanism: Mechanism) -> Result<Host, MeasureError> {
    let costs = Costs::published();
    let guest = |index| GuestSpec::envelope(index, GuestSpec::numbered_mac(index), true);
    let guests = vec![guest(0), guest(1), GuestSpec::stock()];
    let nic = NicConfig { vfs: 2, bus_gbit, ..NicConfig::default() };
    let host = Host::start(&HostSpec { mechanism, ..HostSpec::new(costs, nic, guests) })?;
    host.wait_connected()?;
    Ok(host)
}

/// Bytes that are the same in every run, and in which no piece is like another (xorshift64).
fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        out.extend(next());
    }
    out.truncate(bytes);
    out
}

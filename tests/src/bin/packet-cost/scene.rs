//! What is measured: two guests with a direct channel, polled in turn on one thread, by a clock
//! that is moved. The same arguments always do the same.

use std::hint::black_box;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use xenvelope_backend::{Backend, PairRoute};
use xenvelope_frontend::{Config, Frontend};
use xenvelope_grant::seam::{Host as _, Instant, Offload};
use xenvelope_hypervisor_sim::host::{CardAgent, VfHolder, make_vif};
use xenvelope_hypervisor_sim::machine::{Costs, Domain, DomainOptions, Machine};
use xenvelope_hypervisor_sim::nic::{CardPort, DomainPort, Nic, NicConfig};
use xenvelope_switch::MacAddress;
use xenvelope_tests::lab::frame;

/// Frames of one size that leave in bursts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Bytes of a frame, Ethernet header included.
    pub length: usize,
    /// Frames that are sent before the receiver gets its turn.
    pub burst: usize,
}

impl Load {
    /// How often the sender and the receiver get their turn.
    fn rounds(self) -> usize {
        if self.burst == 1 { 512 } else { 64 }
    }

    /// Frames that are measured.
    pub fn frames(self) -> u64 {
        (self.rounds() * self.burst) as u64
    }
}

/// What both guests did while it was measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Frames that have arrived.
    pub frames: u64,
    /// Envelopes that carried them.
    pub envelopes: u64,
    /// Envelopes that said done and nothing else.
    pub dones: u64,
    /// Grants that were made.
    pub grants: u64,
    /// Calls into the hypervisor.
    pub hypercalls: u64,
    /// Events sent.
    pub events: u64,
}

/// The addresses of the sender and the receiver.
const MACS: [MacAddress; 2] =
    [MacAddress([2, 0x78, 0x76, 0, 0, 1]), MacAddress([2, 0x78, 0x76, 0, 0, 2])];
/// What drivers draw follows from it.
const SEED: u64 = 1;
/// Pages of a domain.
const PAGES: usize = 8192;
/// Turns until the channel is up; it takes a few hundred.
const PATIENCE: usize = 20_000;
/// By how much the clock moves from round to round, in nanoseconds.
const STEP_NS: u64 = 10_000;
/// Rounds before those that are measured: buffers are warm, indices have wrapped.
const WARM_UP: usize = 256;

type Guest = Frontend<Domain, DomainPort>;

/// Runs it. Only what happens in [`measured_rounds`] counts.
pub fn run(load: Load) -> Result<Done> {
    let machine = Machine::drawing(Costs::ideal(), SEED);
    let dom0 = machine.create(&DomainOptions::new("driver-domain", PAGES))?;
    let nic = Nic::new(NicConfig { vfs: 0, ..NicConfig::default() })?;
    let uplink = nic.assign(CardPort::Pf, &dom0)?;
    let card = CardAgent::of(&nic, VfHolder::Guests, &dom0);
    let mut backend = Backend::new(dom0.clone(), Default::default(), Some(uplink), card)?;
    backend.manager().set_all_routes(PairRoute::Direct);
    let guest = |name, mac| -> Result<(Guest, Domain)> {
        let domain = machine.create(&DomainOptions::new(name, PAGES))?;
        make_vif(&dom0, domain.domid(), mac)?;
        // Done is said as often as under a load without end.
        Ok((Frontend::new(domain.clone(), Config::default(), None)?, domain))
    };
    let (mut sender, sending) = guest("sender", MACS[0])?;
    let (mut receiver, receiving) = guest("receiver", MACS[1])?;
    let mut now = Instant(1_000_000);
    let mut turns = 0;
    while sender.direct_channels() + receiver.direct_channels() < 2 || turns < WARM_UP {
        ensure!(turns < PATIENCE, "the guests did not connect");
        turns += 1;
        now.0 += STEP_NS;
        for frontend in [&mut sender, &mut receiver] {
            frontend.poll(now);
            frontend.flush(now);
        }
        backend.poll(now);
    }
    let bytes = frame(MACS[1], MACS[0], &vec![0x5a; load.length - 14]);
    let warm = rounds(&mut sender, &mut receiver, &bytes, load.burst, WARM_UP, &mut now);
    ensure!(warm == (WARM_UP * load.burst) as u64, "only {warm} frames arrived");
    let before =
        (*sender.counters(), *receiver.counters(), [sending.counters(), receiving.counters()]);
    let frames =
        measured_rounds(&mut sender, &mut receiver, &bytes, load.burst, load.rounds(), &mut now);
    ensure!(frames == load.frames(), "only {frames} frames arrived");
    let did = [sending.counters() - before.2[0], receiving.counters() - before.2[1]];
    let sum = |of: fn(&xenvelope_hypervisor_sim::machine::CounterSnapshot) -> u64| {
        did.iter().map(of).sum::<u64>()
    };
    Ok(Done {
        frames,
        envelopes: sender.counters().envelopes_sent - before.0.envelopes_sent,
        dones: receiver.counters().dones_sent - before.1.dones_sent,
        grants: sum(|did| did.grants),
        hypercalls: sum(|did| did.hypercalls),
        events: sum(|did| did.events_sent),
    })
}

/// [`rounds`] that count: the collection of costs is switched on and off by this name.
#[inline(never)]
fn measured_rounds(
    sender: &mut Guest,
    receiver: &mut Guest,
    bytes: &[u8],
    burst: usize,
    count: usize,
    now: &mut Instant,
) -> u64 {
    rounds(sender, receiver, bytes, burst, count, now)
}

/// Rounds in which the sender has its turn and then the receiver. How many frames have arrived.
#[inline(never)]
fn rounds(
    sender: &mut Guest,
    receiver: &mut Guest,
    bytes: &[u8],
    burst: usize,
    count: usize,
    now: &mut Instant,
) -> u64 {
    let mut frames = 0;
    for _ in 0..count {
        now.0 += STEP_NS;
        sender_turn(sender, bytes, burst, *now);
        frames += receiver_turn(receiver, *now);
    }
    frames
}

#[inline(never)]
fn sender_turn(guest: &mut Guest, bytes: &[u8], burst: usize, now: Instant) {
    guest.poll(now);
    for _ in 0..burst {
        guest.send_built(bytes.len(), Offload::default(), |frame| stack_builds(frame, bytes));
    }
    guest.flush(now);
}

#[inline(never)]
fn receiver_turn(guest: &mut Guest, now: Instant) -> u64 {
    let mut frames = 0;
    guest.poll(now);
    while guest.receive(|bytes, _| stack_reads(bytes)).is_some() {
        frames += 1;
    }
    guest.flush(now);
    frames
}

/// The sender's stack. No cost of ours.
#[inline(never)]
fn stack_builds(buffer: &mut [u8], bytes: &[u8]) {
    buffer.copy_from_slice(bytes);
}

/// The receiver's stack, which looks at every byte. No cost of ours.
#[inline(never)]
fn stack_reads(bytes: &[u8]) {
    let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    black_box(words.fold(0, u64::wrapping_add));
}

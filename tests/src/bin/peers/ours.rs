//! Ours: envelopes on a direct channel between two guests of the simulator, all checks on.
//!
//! The host is set up without threads: driver domain, card and guests are polled in turn until the
//! channel is up. Then the two guests get a core each, as threads or as processes that share the
//! simulator's memory, and the driver domain is looked after between times, so that its heart
//! beats.

use std::sync::Arc;
use std::time::{Duration, Instant as StdInstant};

use anyhow::{Context, Result, bail};
use xenvelope_backend::{Backend, PairRoute};
use xenvelope_frontend::{Config, Frontend, Link};
use xenvelope_grant::seam::{Host as _, Instant, Offload};
use xenvelope_hypervisor_sim::host::{CardAgent, VfHolder, make_vif};
use xenvelope_hypervisor_sim::machine::{
    Backing, Costs, CounterSnapshot, Domain, DomainOptions, Machine,
};
use xenvelope_hypervisor_sim::nic::{CardPort, DomainPort, Nic, NicConfig};
use xenvelope_switch::MacAddress;

use super::contender::Load;
use super::frame::{MACS, Reader, Writer};
use super::two::{Sides, both_sides};
use super::window::{Meter, Part, Window, now};

/// Pages of a guest: enough for its quota of the longest frames.
const PAGES: usize = 65536;
/// How long the channel may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A guest.
pub struct Guest {
    /// Its domain.
    pub domain: Domain,
    /// Its interface.
    pub frontend: Frontend<Domain, DomainPort>,
}

impl Guest {
    /// From the domain's clock to the window's.
    fn offset(&self) -> u64 {
        now() - self.domain.now().0
    }

    /// One look at the clock, as the window and as the interface have it.
    fn time(&self, offset: u64) -> (u64, Instant) {
        let clock = now();
        (clock, Instant(clock - offset))
    }

    /// What `part` was in a window in which the domain's counters went on from `before`.
    fn with_calls(&self, part: Part, before: CounterSnapshot) -> Part {
        let did = self.domain.counters() - before;
        Part { hypercalls: did.hypercalls, events: did.events_sent, ..part }
    }
}

/// A host with two guests.
pub struct Pair {
    /// The sender and the receiver.
    pub guests: [Guest; 2],
    /// The driver domain's backend,
    pub backend: Backend<Domain, DomainPort, CardAgent>,
    /// and its domain.
    pub dom0: Domain,
    /// The card, which somebody has to run.
    pub card: Arc<Nic>,
}

impl Pair {
    /// With a direct channel between the guests.
    pub fn connect(costs: Costs, sides: Sides) -> Result<Pair> {
        Pair::connect_by(PairRoute::Direct, costs, sides)
    }

    /// With that route between the guests, by channels.
    pub fn connect_by(route: PairRoute, costs: Costs, sides: Sides) -> Result<Pair> {
        let card = NicConfig { vfs: 0, ..NicConfig::default() };
        Pair::connect_with(card, route, costs, sides)
    }

    /// With that route between the guests, each of which has a VF if the card has any.
    pub fn connect_with(
        card: NicConfig,
        route: PairRoute,
        costs: Costs,
        sides: Sides,
    ) -> Result<Pair> {
        let backing = Backing { shared: sides == Sides::Processes, huge: true };
        let machine = Machine::new(costs);
        let options = |name: &str| DomainOptions { backing, ..DomainOptions::new(name, PAGES) };
        let dom0 = machine.create(&options("driver-domain"))?;
        let with_vfs = card.vfs > 0;
        let nic = Nic::new(card)?;
        let uplink = nic.assign(CardPort::Pf, &dom0)?;
        let agent = CardAgent::of(&nic, VfHolder::Guests, &dom0);
        let mut backend = Backend::new(dom0.clone(), Default::default(), Some(uplink), agent)?;
        backend.manager().set_all_routes(route);
        let guest = |index: usize| -> Result<Guest> {
            let domain = machine.create(&options(["sender", "receiver"][index]))?;
            make_vif(&dom0, domain.domid(), MACS[index])?;
            let vf = if with_vfs { Some(give_vf(&nic, &domain, MACS[index])?) } else { None };
            let frontend = Frontend::new(domain.clone(), Config::default(), vf)?;
            Ok(Guest { domain, frontend })
        };
        let mut pair = Pair { guests: [guest(0)?, guest(1)?], backend, dom0, card: nic };
        let end = StdInstant::now() + PATIENCE;
        let channels = usize::from(route == PairRoute::Direct);
        while !pair.is_up(channels) {
            if StdInstant::now() > end {
                bail!("the guests did not connect");
            }
            pair.look_after();
            for guest in &mut pair.guests {
                let now = guest.domain.now();
                guest.frontend.poll(now);
                guest.frontend.flush(now);
            }
        }
        Ok(pair)
    }

    fn is_up(&mut self, channels: usize) -> bool {
        let [sender, receiver] = &mut self.guests;
        let up = |guest: &Guest| {
            guest.frontend.link() == Link::Up && guest.frontend.direct_channels() == channels
        };
        up(sender) && up(receiver) && sender.frontend.has_room(MACS[1], 1, 1)
    }

    fn look_after(&mut self) {
        let now = self.dom0.now();
        self.backend.poll(now);
        self.card.run(now);
    }

    /// Has frames go from the first guest to the second, by channels.
    pub fn run(&mut self, load: Load, sides: Sides, length: Duration) -> Result<[Part; 2]> {
        let window = Window::soon(length);
        let Pair { guests: [sender, receiver], backend, dom0, .. } = self;
        both_sides(
            sides,
            || send(sender, load, window.for_sender(), |_| ()),
            || receive(receiver, load, window),
            || {
                backend.poll(dom0.now());
            },
        )
    }

    /// Has frames go from the first guest to the second through the card, which the sender's core
    /// has to run: where it is hardware it would cost nobody anything.
    pub fn run_by_card(&mut self, load: Load, length: Duration) -> Result<[Part; 2]> {
        let window = Window::soon(length);
        let Pair { guests: [sender, receiver], backend, dom0, card } = self;
        both_sides(
            Sides::Threads,
            || send(sender, load, window.for_sender(), |time| run_card(card, time)),
            || receive(receiver, load, window),
            || {
                backend.poll(dom0.now());
            },
        )
    }
}

/// Turns of the card for each of the sender's: one does a limited amount of work.
const CARD_TURNS: usize = 4;

fn run_card(card: &Nic, now: Instant) {
    for _ in 0..CARD_TURNS {
        if card.run(now).is_none_or(|next| next > now) {
            return;
        }
    }
}

fn give_vf(nic: &Arc<Nic>, guest: &Domain, mac: MacAddress) -> Result<DomainPort> {
    let (vf, control) = (nic.allocate_vf()?, nic.pf_control());
    control.set_vf_mac(vf, mac.0)?;
    control.set_vf_floods(vf, true)?;
    Ok(nic.assign(CardPort::Vf(vf), guest)?)
}

/// One sample.
pub fn run(load: Load, costs: Costs, sides: Sides, length: Duration) -> Result<[Part; 2]> {
    let mut pair = Pair::connect(costs, sides).context("the simulated host did not come up")?;
    pair.run(load, sides, length)
}

/// Envelopes that a burst takes at most: what fits depends on how much each frame takes of it.
fn envelopes(load: Load) -> u32 {
    let each = if load.length > 9000 { 1 } else { 2 };
    (load.burst as u32).div_ceil(each)
}

fn send(guest: &mut Guest, load: Load, window: Window, hardware: impl Fn(Instant)) -> Part {
    let (mut meter, mut writer) = (Meter::new(window), Writer::new(load.full));
    let (mut sent, mut before) = (0, None);
    let offset = guest.offset();
    loop {
        let (clock, time) = guest.time(offset);
        if let Some(part) = meter.tick(clock, sent) {
            return guest.with_calls(part, before.unwrap_or_default());
        }
        if before.is_none() && meter.has_begun() {
            before = Some(guest.domain.counters());
        }
        guest.frontend.poll(time);
        sent += stage(guest, load, &mut writer);
        guest.frontend.flush(time);
        hardware(time);
    }
}

/// Stages a burst, if it has room. How many frames.
fn stage(guest: &mut Guest, load: Load, writer: &mut Writer) -> u64 {
    if !guest.frontend.has_room(MACS[1], load.burst, envelopes(load)) {
        return 0;
    }
    for staged in 0..load.burst as u64 {
        let write = |frame: &mut [u8]| writer.write(frame);
        if guest.frontend.send_built(load.length, Offload::default(), write).is_none() {
            return staged;
        }
    }
    load.burst as u64
}

/// One turn of a sender.
pub fn send_burst(guest: &mut Guest, load: Load, writer: &mut Writer) {
    let now = guest.domain.now();
    guest.frontend.poll(now);
    stage(guest, load, writer);
    guest.frontend.flush(now);
}

fn receive(guest: &mut Guest, load: Load, window: Window) -> Part {
    let (mut meter, mut reader) = (Meter::new(window), Reader::new(load.length));
    let (mut before, offset) = (None, guest.offset());
    loop {
        let (clock, time) = guest.time(offset);
        if let Some(part) = meter.tick(clock, reader.frames) {
            let part = Part { wrong: reader.wrong, ..part };
            return guest.with_calls(part, before.unwrap_or_default());
        }
        if before.is_none() && meter.has_begun() {
            before = Some(guest.domain.counters());
        }
        guest.frontend.poll(time);
        while guest.frontend.receive(|bytes, _| reader.read(bytes)).is_some() {}
        guest.frontend.flush(time);
    }
}

//! What is looked at after each step, now and then, and at rest.

use xenvelope_frontend::DropReason;
use xenvelope_grant::DomId;
use xenvelope_grant::seam::Granter as _;
use xenvelope_grant::seam::Host as _;
use xenvelope_switch::channel::RING_PAGES;

use super::guests::Tenant;
use super::oracles::Oracle;
use super::world::World;

/// Every so many steps the expensive oracles are asked.
pub const EVERY: u64 = 256;
/// Frames that may wait in a frontend: what the stack stages, and what each of a few flows holds.
const QUEUED: usize = 512 * 16;
/// Grants of a guest to the driver domain at rest: the rings and their buffers, twice.
const RINGS: usize = 2 * (2 + 2 * RING_PAGES + 2 * 257);
/// Requests for memory in which a domain has looked at all pages that others kept mapped.
const EXHUMED: usize = 256;
/// Time that those who were disturbed may take until all is at rest: the driver domain's patience
/// with a done is 10 s, and an interface that has failed rests before it begins anew.
const REST_NS: u64 = 120_000_000_000;
/// Time until everybody knows what has changed.
const NEWS_NS: u64 = 1_000_000_000;
/// Steps that this may take.
const REST_STEPS: u64 = 400_000;

/// Nodes of the store for each domain: a guest has some fifty, and for each of up to five direct
/// channels its own ring's references and its peer's, on both sides.
const NODES: usize = 260;

impl World {
    /// After a turn of a guest.
    pub(super) fn look_at(&mut self, number: usize) {
        let Tenant::Ours(ours) = &mut self.guests[number] else { return };
        let oracles = &self.shared.oracles;
        let counters = *ours.frontend.counters();
        // A done of a peer's former life is not believed, and accuses nobody.
        let closed = counters.dropped_for(DropReason::PeerClosed);
        oracles.check(Oracle::Honest, closed == 0, || {
            format!("guest {number}: {closed} to closed peers, {} bad dones", counters.bad_dones)
        });
        let peers = self.plan.guests.len() * 8;
        let quota = self.plan.config.peer_quota * peers;
        let (queued, outstanding) = (ours.frontend.queued(), ours.frontend.outstanding());
        oracles.check(Oracle::Bounded, queued <= QUEUED && outstanding <= quota, || {
            format!("guest {number}: {queued} queued, {outstanding} outstanding")
        });
    }

    /// After a turn of the driver domain.
    pub(super) fn look_at_backend(&mut self) {
        let Some(backend) = &self.driver.backend else { return };
        let closed = backend.counters().closed_hostile;
        self.shared.oracles.check(Oracle::Honest, closed == 0, || {
            format!("the backend has closed {closed} interfaces for breaking the protocol")
        });
    }

    /// Now and then.
    pub fn look_around(&mut self) {
        let oracles = &self.shared.oracles;
        let ledger = self.ledger();
        oracles.check(Oracle::Conservation, ledger.adds_up(false), || {
            format!("{} more delivered and dropped than sent: {ledger:?}", -ledger.missing())
        });
        for guest in &self.guests {
            let Tenant::Ours(ours) = guest else { continue };
            let domid = ours.host.domain.domid();
            let grants = self.shared.machine.scan_grants(domid);
            let unknown = |(gref, to, _): &&(xenvelope_grant::Gref, DomId, u16)| {
                *to != DomId::DOM0
                    && !self.plan.config.keyed
                    && !self.shared.knows(domid, *gref, *to)
            };
            let unknown = grants.iter().find(unknown);
            oracles.check(Oracle::KnownGrants, unknown.is_none(), || {
                format!("guest {}: nobody knows of {unknown:?}", ours.number)
            });
        }
        let store = self.shared.machine.store_tree().lines().count();
        oracles.check(Oracle::Bounded, store < NODES * (self.guests.len() + 1), || {
            format!("{store} nodes in the store")
        });
    }

    /// Why it is not at rest yet, if it is not.
    pub fn unrest(&mut self) -> Option<String> {
        if self.driver.backend.is_none() {
            return Some("there is no backend".to_owned());
        }
        for (number, guest) in self.guests.iter_mut().enumerate() {
            if !guest.is_up() {
                return Some(format!("the link of guest {number} is not up"));
            }
            match guest {
                Tenant::Ours(ours) => {
                    let (queued, out) = (ours.frontend.queued(), ours.frontend.outstanding());
                    if queued + out > 0 {
                        return Some(format!("guest {number}: {queued} queued, {out} outstanding"));
                    }
                }
                Tenant::Stock(stock) if stock.guest.unanswered() > 0 => {
                    let slots = stock.guest.unanswered();
                    return Some(format!("stock guest {number}: {slots} slots unanswered"));
                }
                Tenant::Stock(_) | Tenant::Gone { .. } => {}
            }
        }
        let ledger = self.ledger();
        (!ledger.adds_up(true))
            .then(|| format!("{} frames are missing: {ledger:?}", ledger.missing()))
    }

    /// Goes on until there is rest. What it lacks, if it does not come.
    fn rest(&mut self) -> Option<String> {
        let (end, last) = (self.shared.now().0 + REST_NS, self.steps() + REST_STEPS);
        loop {
            for _ in 0..64 {
                self.go_on();
            }
            let unrest = self.unrest();
            let late = self.shared.now().0 > end || self.steps() > last;
            if unrest.is_none() || late || !self.shared.oracles.all_hold() {
                return unrest;
            }
        }
    }

    /// Faults and traffic stop; all must come to rest, and then work.
    pub fn settle(&mut self) {
        self.calm();
        let unrest = self.rest();
        self.judge_rest(unrest.as_deref());
        if !self.shared.oracles.all_hold() {
            return;
        }
        // What the store says late, and what follows of it, is known to all by then.
        let known = self.shared.now().0 + NEWS_NS;
        while self.shared.now().0 < known {
            self.go_on();
        }
        self.fresh_frames();
        let unrest = self.rest();
        self.judge_rest(unrest.as_deref());
        self.judge_grants();
    }

    fn judge_rest(&self, unrest: Option<&str>) {
        let oracles = &self.shared.oracles;
        let all_up = self.guests.iter().all(Tenant::is_up) && self.driver.backend.is_some();
        oracles.check(Oracle::LinksUp, all_up, || unrest.unwrap_or_default().to_owned());
        let ledger = self.ledger();
        let missing = ledger.missing();
        oracles.check(Oracle::Conservation, ledger.adds_up(true), || {
            format!("{missing} frames are missing: {ledger:?}")
        });
        oracles.check(Oracle::Quiet, unrest.is_none(), || unrest.unwrap_or_default().to_owned());
    }

    /// A frame of every pair.
    fn fresh_frames(&mut self) {
        let count = self.guests.len() as u8;
        let mut wanted = Vec::new();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                for _ in 0..2 {
                    let Some((number, length)) = self.deliveries.next_ordinary(from, to) else {
                        continue;
                    };
                    let sent = self.send_this(from, to, number, length);
                    self.shared.oracles.check(Oracle::FreshFrames, sent, || {
                        format!("guest {from} at rest cannot send")
                    });
                    wanted.push((from, to, number));
                    for _ in 0..8 {
                        self.go_on();
                    }
                }
            }
        }
        let end = self.shared.now().0 + REST_NS;
        while self.shared.now().0 < end && self.shared.oracles.all_hold() {
            for _ in 0..32 {
                self.go_on();
            }
            wanted.retain(|(from, to, number)| !self.deliveries.has(*from, *to, *number));
            if wanted.is_empty() {
                break;
            }
            // A frame that was dropped does not come however long one waits.
            if self.unrest().is_none() && self.shared.now().0 + REST_NS / 2 > end + REST_NS / 4 {
                break;
            }
        }
        let ledger = &self.past;
        self.shared.oracles.check(Oracle::FreshFrames, wanted.is_empty(), || {
            format!(
                "(from, to, number) of those that have not arrived: {wanted:?}; past {ledger:?}"
            )
        });
    }

    fn judge_grants(&mut self) {
        for guest in &mut self.guests {
            let Tenant::Ours(ours) = guest else { continue };
            let domid = ours.host.domain.domid();
            let grants = self.shared.machine.scan_grants(domid);
            let to_backend = grants.iter().filter(|(_, to, _)| *to == DomId::DOM0).count();
            let to_guests = grants.len() - to_backend;
            let rings = ours.frontend.direct_rings() * RING_PAGES;
            let right = to_guests == rings && to_backend <= RINGS;
            self.shared.oracles.check(Oracle::Reclaimed, right, || {
                format!(
                    "guest {}: {to_guests} grants to guests where its rings are {rings}, and \
                     {to_backend} to the backend",
                    ours.number
                )
            });
        }
    }

    /// All guests end: the driver domain keeps nothing of them.
    pub fn tear_down(&mut self) {
        self.end_all();
        let end = self.shared.now().0 + 5_000_000_000;
        while self.shared.now().0 < end {
            self.go_on();
        }
        let connected = self.driver.backend.as_ref().map_or(0, |backend| backend.connected());
        // What a process left mapped by others when it ended is taken back when its domain next
        // asks for memory, some at a time.
        for _ in 0..EXHUMED {
            drop(self.driver.host.domain.take(None, 1));
        }
        self.driver.host.withdraw_rest();
        let grants = self.shared.machine.scan_grants(DomId::DOM0);
        let right = connected == 0 && grants.is_empty();
        self.shared.oracles.check(Oracle::TornDown, right, || {
            format!(
                "{connected} interfaces and {} grants are left: {:?}",
                grants.len(),
                grants.first()
            )
        });
    }
}

//! What befalls whole domains, processes, the card and the policy; and how they come back.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Host as _, Store as _};
use xenvelope_hypervisor_sim::machine::Domain;

use super::faults::Fault;
use super::guests::Tenant;
use super::oracles::Oracle;
use super::trace::Note;
use super::world::{World, address};
use crate::lab::{mac, make_vif, remove_vif};

const MS: u64 = 1_000_000;
/// After so long an id comes back at the earliest: a frontend that runs has taken back by then
/// what it had granted to it, and believes no table that a dead manager has left.
const ID_COMES_BACK: u64 = 5_000 * MS;

impl World {
    /// What goes wrong now.
    pub(super) fn accidents(&mut self) {
        let shared = std::rc::Rc::clone(&self.shared);
        let count = self.guests.len() as u64;
        let now = shared.now().0;
        let hit = |fault| shared.hit(fault, 0);
        let one = |fault| shared.faults.below(fault, count) as usize;
        let span = |fault, from, to| shared.faults.span(fault, from, to);
        if hit(Fault::GuestCrash)
            && let Some(domain) = self.guests[one(Fault::GuestCrash)].domain()
        {
            shared.machine.destroy(domain.domid());
        }
        if hit(Fault::AgentRestart) {
            self.restart_agent(one(Fault::AgentRestart));
        }
        if hit(Fault::BackendKill) {
            self.end_backend(now + span(Fault::BackendKill, MS, 4000 * MS), false);
        }
        if hit(Fault::BackendShutdown) {
            self.end_backend(now + span(Fault::BackendShutdown, MS, 1000 * MS), true);
        }
        if hit(Fault::VfUnplug)
            && let Some(vf) = self.vfs[one(Fault::VfUnplug)]
            && !self.plug_at.contains_key(&vf)
            && self.nic.unplug_vf(vf).is_ok()
        {
            self.plug_at.insert(vf, now + span(Fault::VfUnplug, MS / 100, 300 * MS));
            // Frames that it has taken leave it within the time that a sender gives it
            // (frontend/src/transmit/order.rs): how late they are nobody can know.
            self.card_asleep_until = self.card_asleep_until.min(now);
            self.card_awake_until = now + 2 * MS;
        }
        if hit(Fault::RouteChange) {
            self.change_route();
        }
        if hit(Fault::PolicyChange) {
            let guest = one(Fault::PolicyChange) as u8;
            let parted = !self.parted.get(&guest).copied().unwrap_or(false);
            self.parted.insert(guest, parted);
            shared.note(Note::Asked(format!("guest {guest} parted: {parted}")));
            self.ask_manager();
        }
        if hit(Fault::GuestAsleep) {
            let until = now + span(Fault::GuestAsleep, MS / 100, 1000 * MS);
            match &mut self.guests[one(Fault::GuestAsleep)] {
                Tenant::Ours(ours) => ours.asleep_until = until,
                Tenant::Stock(stock) => stock.asleep_until = until,
                Tenant::Gone { .. } => {}
            }
        }
        if hit(Fault::BackendAsleep) {
            self.driver.asleep_until = now + span(Fault::BackendAsleep, MS / 100, 1000 * MS);
        }
        if hit(Fault::CardAsleep) && self.card_awake_until <= now {
            self.card_asleep_until = now + span(Fault::CardAsleep, MS / 100, 100 * MS);
        }
        if hit(Fault::TimeJump) {
            shared.pass(span(Fault::TimeJump, MS / 10, 2000 * MS));
        }
    }

    fn change_route(&mut self) {
        let faults = &self.shared.faults;
        let kind = Fault::RouteChange;
        let count = self.guests.len() as u64;
        let route = self.plan.routes[faults.below(kind, self.plan.routes.len() as u64) as usize];
        let one = faults.below(kind, count) as u8;
        let other = faults.below(kind, count) as u8;
        if one == other {
            self.all_routes = route;
            self.routes.clear();
        } else {
            self.routes.insert((one.min(other), one.max(other)), route);
        }
        self.shared.note(Note::Asked(format!("{one} to {other}: {route:?}")));
        let all = self.all_routes;
        let Some(backend) = &mut self.driver.backend else { return };
        match one == other {
            true => backend.manager().set_all_routes(all),
            false => backend.manager().set_route(address(one), address(other), route),
        }
    }

    fn end_backend(&mut self, back_at: u64, as_it_likes: bool) {
        let Some(backend) = self.driver.backend.take() else { return };
        self.driver.back_at = back_at;
        if as_it_likes {
            let counters = backend.shutdown();
            self.past.backend(&counters);
        } else {
            // What waited in it is gone, and nobody counts it.
            self.past.backend(backend.counters());
            self.past.inexact = true;
            drop(backend);
        }
        self.driver.host.withdraw_rest();
    }

    fn restart_agent(&mut self, number: usize) {
        let Tenant::Ours(ours) = &self.guests[number] else { return };
        let domain = ours.host.domain.clone();
        if !domain.is_alive() {
            return;
        }
        self.past.frontend(ours.frontend.counters());
        self.past.inexact = true;
        // Its place is taken for a moment, so that its VF is free.
        let domid = domain.domid();
        self.guests[number] =
            Tenant::Gone { clean_at: None, back_at: u64::MAX, domid, same_id: false };
        forget_watches(&domain);
        self.deliveries.excuse(number as u8);
        self.deliveries.excuse_sender(number as u8, self.plan.guests.len() as u8);
        let agent = self.agent(number, domain);
        self.guests[number] = Tenant::Ours(Box::new(agent));
    }

    /// The toolstack removes a device that has closed, and makes it again.
    pub(super) fn make_device_anew(&mut self, number: usize) {
        let Tenant::Stock(stock) = &mut self.guests[number] else { return };
        let domid = stock.guest.domain.domid();
        remove_vif(&self.driver.host.domain, domid);
        make_vif(&self.driver.host.domain, domid, mac(number));
        stock.has_device();
    }

    /// Those whose domain has ended leave.
    pub(super) fn bury(&mut self) {
        for number in 0..self.guests.len() {
            let Some(domain) = self.guests[number].domain().filter(|domain| !domain.is_alive())
            else {
                continue;
            };
            let domid = domain.domid();
            match &self.guests[number] {
                Tenant::Ours(ours) => self.past.frontend(ours.frontend.counters()),
                Tenant::Stock(stock) => self.past.stock(stock),
                Tenant::Gone { .. } => {}
            }
            self.past.inexact = true;
            let now = self.shared.now().0;
            let span = |from, to| self.shared.faults.span(Fault::GuestCrash, from, to);
            let clean_at = now + span(MS / 100, 20 * MS);
            let same_id = self.shared.hit(Fault::DomidReused, u64::from(domid.0));
            let back_at =
                if same_id { now + ID_COMES_BACK } else { clean_at + span(MS / 100, 200 * MS) };
            if same_id {
                self.quiet_until = back_at;
            }
            self.guests[number] =
                Tenant::Gone { clean_at: Some(clean_at), back_at, domid, same_id };
            self.shared.ended(domid);
        }
    }

    /// Those who are to come back do.
    pub(super) fn come_back(&mut self) {
        let now = self.shared.now().0;
        for number in 0..self.guests.len() {
            if let Tenant::Gone { clean_at, back_at, domid, same_id } = &mut self.guests[number] {
                let (domid, same_id) = (*domid, *same_id);
                if clean_at.is_some_and(|at| at <= now) {
                    *clean_at = None;
                    remove_vif(&self.driver.host.domain, domid);
                }
                if *back_at <= now && clean_at.is_none() {
                    if same_id && !self.id_is_free(domid) {
                        self.postpone(number, now + 100 * MS);
                        continue;
                    }
                    self.guests[number] = self.tenant(number, same_id.then_some(domid));
                }
            }
        }
        if self.driver.backend.is_none() && self.driver.back_at <= now {
            self.start_backend();
        }
        let due: Vec<usize> =
            self.plug_at.iter().filter(|(_, at)| **at <= now).map(|(vf, _)| *vf).collect();
        for vf in due {
            // Refused while the driver domain has the address behind the PF, as it has while it
            // believes the VF to be gone.
            match self.nic.plug_vf(vf) {
                Ok(()) => self.plug_at.remove(&vf),
                Err(_) => self.plug_at.insert(vf, now + MS),
            };
        }
    }

    fn postpone(&mut self, number: usize, to: u64) {
        if let Tenant::Gone { back_at, .. } = &mut self.guests[number] {
            *back_at = to;
            self.quiet_until = to;
        }
    }

    /// Whether nobody has anything granted to that id any more, as everybody has had the time to
    /// see to. Who was kept from it by a fault is waited for.
    fn id_is_free(&self, domid: DomId) -> bool {
        let now = self.shared.now().0;
        let mut all_awake = true;
        let mut kept = 0;
        for guest in &self.guests {
            if let Tenant::Ours(ours) = guest {
                all_awake &= now - ours.polled_at < 1000 * MS && ours.asleep_until <= now;
                let grants = self.shared.machine.scan_grants(ours.host.domain.domid());
                kept += grants.iter().filter(|(_, to, _)| *to == domid).count();
            }
        }
        let backend_runs = self.driver.backend.is_some() && self.driver.asleep_until <= now;
        let may_be_kept = self.shared.faults.rate(Fault::RevokePinned) > 0
            || self.shared.faults.rate(Fault::TimeJump) > 0
            || !all_awake
            || !backend_runs;
        self.shared.oracles.check(Oracle::Reclaimed, kept == 0 || may_be_kept, || {
            format!("{kept} grants to {domid:?}, which has ended {} ms ago", ID_COMES_BACK / MS)
        });
        all_awake && backend_runs && kept == 0
    }

    /// All that went wrong is over.
    pub(super) fn calm(&mut self) {
        self.shared.faults.stop();
        self.shared.note(Note::Settling);
        self.traffic_on = false;
        let now = self.shared.now().0;
        for guest in &mut self.guests {
            match guest {
                Tenant::Ours(ours) => ours.asleep_until = 0,
                Tenant::Stock(stock) => stock.asleep_until = 0,
                Tenant::Gone { same_id, back_at, .. } => {
                    if !*same_id {
                        *back_at = now;
                    }
                }
            }
        }
        self.driver.asleep_until = 0;
        self.driver.back_at = now;
        self.card_asleep_until = 0;
        self.plug_at.values_mut().for_each(|at| *at = now);
        if self.parted.values().any(|parted| *parted) {
            self.parted.values_mut().for_each(|parted| *parted = false);
            self.ask_manager();
        }
    }

    /// Ends all guests for good.
    pub(super) fn end_all(&mut self) {
        for number in 0..self.guests.len() {
            if let Some(domain) = self.guests[number].domain() {
                self.shared.machine.destroy(domain.domid());
            }
        }
        self.bury();
        for guest in &mut self.guests {
            if let Tenant::Gone { back_at, .. } = guest {
                *back_at = u64::MAX;
            }
        }
    }
}

/// Kills a process' connection to the store.
fn forget_watches(domain: &Domain) {
    let mut path = [0; 256];
    for token in [0x0ba0, 0x0ba1] {
        domain.unwatch(token);
    }
    while domain.next(&mut path).is_some() {}
}

//! Who does what next.
//!
//! Nobody sleeps and nobody runs beside another: a turn of one at a time, chosen by the seed. A
//! driver that has nothing to do says until when it wants to sleep, as on any host; an event, or
//! that time, wakes it. When all sleep, time goes on to when the first one wakes.

use xenvelope_grant::seam::Instant;

use super::faults::Fault;
use super::guests::Tenant;
use super::port::SimPort;
use super::shared::Sabotage;
use super::trace::{Actor, Note};
use super::world::{Driver, World};

impl World {
    /// Somebody does something, or time goes on.
    pub fn go_on(&mut self) {
        self.shared.oracles.step.set(self.steps());
        if self.shared.faults.are_on() {
            self.accidents();
        }
        self.bury();
        self.come_back();
        if self.traffic_on && self.quiet_until <= self.shared.now().0 {
            self.talk();
        }
        let count = self.guests.len() as u64;
        let did = match self.schedule.below(count + 3) {
            guest if guest < count => self.guest_turn(guest as usize),
            which if which == count => self.backend_turn(),
            which if which == count + 1 => self.card_turn(),
            _ => self.engine_turn(),
        };
        if did {
            self.fruitless = 0;
            let ns = 200 + self.schedule.below(2000);
            self.shared.pass(ns);
            return;
        }
        self.fruitless += 1;
        if self.fruitless > 4 + count as usize {
            self.fruitless = 0;
            self.skip();
        }
    }

    /// Whether a guest never has its turn.
    fn is_deaf(&self, number: usize) -> bool {
        self.shared.sabotage == Some(Sabotage::Deaf) && number == 0
    }

    fn guest_turn(&mut self, number: usize) -> bool {
        let now = self.shared.now().0;
        let linger = self.schedule.below(4) == 0;
        if self.is_deaf(number) {
            return false;
        }
        match &mut self.guests[number] {
            Tenant::Ours(ours) if ours.asleep_until <= now => {
                if !ours.awake && !ours.wakes() {
                    return false;
                }
                self.polls.frontends += 1;
                let busy = ours.turn(&mut self.deliveries, linger);
                self.polls.busy += u64::from(busy);
                self.look_at(number);
                true
            }
            Tenant::Stock(stock) if stock.asleep_until <= now => {
                if !stock.wakes(&self.shared) {
                    return false;
                }
                self.polls.stock += 1;
                stock.turn(&self.shared, &mut self.deliveries);
                if stock.wants_device(now) {
                    self.make_device_anew(number);
                }
                true
            }
            _ => false,
        }
    }

    fn backend_turn(&mut self) -> bool {
        let Driver { host, backend, awake, asleep_until, .. } = &mut self.driver;
        let now = self.shared.now();
        let Some(backend) = backend.as_mut().filter(|_| *asleep_until <= now.0) else {
            return false;
        };
        if !*awake {
            let events = host.deliver();
            if events > 0 {
                self.shared.note(Note::Events(Actor::Backend, events));
                *awake |= !self.shared.hit(Fault::EventLate, u64::from(events));
            }
            *awake |= host.sleep.until.get().is_some_and(|until| until <= now)
                || host.store_due().is_some_and(|due| due <= now.0)
                || backend.uplink().and_then(SimPort::due).is_some_and(|due| due <= now.0);
            if !*awake {
                return false;
            }
        }
        host.sleep.until.set(None);
        let before = backend.connected();
        let busy = backend.poll(now);
        if backend.connected() != before {
            // What it has sent to a guest by the card until now, the card may still bring.
            (0..self.guests.len()).for_each(|guest| self.deliveries.excuse(guest as u8));
        }
        if !busy || self.schedule.below(4) == 0 {
            backend.wait(Instant::FAR_FUTURE);
            *awake = host.sleep.until.get().is_none();
        }
        self.polls.backend += 1;
        self.polls.busy += u64::from(busy);
        self.shared.note(Note::Poll(Actor::Backend, busy));
        self.look_at_backend();
        true
    }

    fn card_turn(&mut self) -> bool {
        let now = self.shared.now();
        if self.card_asleep_until > now.0 || (self.card_at > now.0 && !self.nic.rung()) {
            return false;
        }
        self.card_at = self.nic.run(now).map_or(u64::MAX, |next| next.0);
        self.polls.card += 1;
        true
    }

    fn engine_turn(&mut self) -> bool {
        let did = self.shared.machine.step_engine();
        if did {
            self.polls.engine += 1;
            // The engine's end wakes whoever waits for it.
            for guest in &mut self.guests {
                if let Tenant::Ours(ours) = guest {
                    ours.awake |= ours.host.sleep.underway.get() > 0;
                }
            }
            self.driver.awake |= self.driver.host.sleep.underway.get() > 0;
        }
        did
    }

    /// Nobody has anything to do: time goes on to when somebody has.
    fn skip(&mut self) {
        let now = self.shared.now().0;
        let deaf = self.is_deaf(0);
        for guest in self.guests.iter_mut().skip(usize::from(deaf)) {
            if let Tenant::Ours(ours) = guest
                && ours.asleep_until <= now
                && (ours.awake || ours.wakes())
            {
                return;
            }
        }
        let mut next = now + 500_000_000;
        for guest in self.guests.iter().skip(usize::from(deaf)) {
            let due = match guest {
                Tenant::Ours(ours) => ours.due(),
                Tenant::Stock(stock) => stock.due(),
                Tenant::Gone { clean_at, back_at, .. } => clean_at.unwrap_or(*back_at),
            };
            next = next.min(due.max(now));
        }
        next = next.min(self.driver_due().max(now));
        next = next.min(self.card_at.max(self.card_asleep_until).max(now));
        if self.nic.rung() {
            next = next.min(self.card_asleep_until.max(now));
        }
        if let Some(plug) = self.plug_at.values().min() {
            next = next.min((*plug).max(now));
        }
        if self.traffic_on {
            // Stacks send without being woken.
            let pause = self.traffic.below(2_000_000);
            next = next.min(now.max(self.quiet_until) + pause);
        }
        self.shared.pass(next - now);
    }

    fn driver_due(&self) -> u64 {
        let Driver { host, backend, awake, asleep_until, back_at, .. } = &self.driver;
        let Some(backend) = backend else { return *back_at };
        if *awake {
            return *asleep_until;
        }
        let times = [
            host.sleep.until.get().map(|until| until.0),
            host.store_due(),
            backend.uplink().and_then(SimPort::due),
        ];
        times.into_iter().flatten().min().unwrap_or(u64::MAX).max(*asleep_until)
    }
}

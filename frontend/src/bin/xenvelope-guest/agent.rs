//! The loop: frames from the guest's stack to the frontend, and from the frontend to the stack.

use std::path::Path;
use std::time::Duration;

use xenvelope_frontend::{Frontend, Link};
use xenvelope_grant::seam::{Host, Instant, NicPort};
use xenvelope_switch::MacAddress;
use xenvelope_xen::linux::{PacketConfig, PacketPort, Tap, Xen};

use crate::config::Vf;
use crate::device;
use crate::report::Report;
use crate::vf::{Finder, Found};

/// How often the VF is looked for.
const LOOK_FOR_VF: Duration = Duration::from_secs(1);

/// The interface, on both sides.
pub struct Agent {
    host: Xen,
    /// Only for a moment there is none.
    tap: Option<Tap>,
    interface: String,
    frontend: Frontend<Xen, PacketPort>,
    which: Vf,
    finder: Finder,
    /// The VF that is bonded.
    vf: Option<Found>,
    /// Why there is none, as it was logged.
    complaint: String,
    look_at: Instant,
    link: Link,
    /// Frames that the stack did not take.
    refused: u64,
    /// Frames that were lost at VFs that have gone.
    vf_lost: u64,
}

impl Agent {
    /// An agent between a TAP and a frontend.
    pub fn new(host: Xen, tap: Tap, frontend: Frontend<Xen, PacketPort>, which: Vf) -> Agent {
        let finder = Finder::new(Path::new("/"), tap.name());
        let mut agent = Agent {
            look_at: host.now(),
            link: frontend.link(),
            host,
            interface: tap.name().to_owned(),
            tap: Some(tap),
            frontend,
            which,
            finder,
            vf: None,
            complaint: String::new(),
            refused: 0,
            vf_lost: 0,
        };
        // The manager hears of the VF with the first of what it hears of us.
        agent.follow_vf(agent.look_at);
        agent
    }

    /// The interface's address.
    pub fn mac(&self) -> MacAddress {
        self.frontend.mac()
    }

    /// Another TAP takes the place of ours. Ours goes first: a TAP has one owner.
    pub fn replace_tap<E>(&mut self, open: impl FnOnce() -> Result<Tap, E>) -> Result<(), E> {
        self.tap = None;
        self.tap = Some(open()?);
        Ok(())
    }

    /// One turn. Whether anything happened.
    pub fn turn(&mut self, now: Instant) -> bool {
        let mut busy = self.frontend.poll(now);
        busy |= self.give_to_stack();
        busy |= self.tap.as_ref().is_some_and(|tap| self.frontend.take_from_stack(tap));
        busy |= self.frontend.flush(now);
        if now >= self.look_at {
            self.look_at = now + LOOK_FOR_VF;
            self.follow_vf(now);
        }
        if self.link != self.frontend.link() {
            self.link = self.frontend.link();
            match self.link {
                Link::Up => tracing::info!("connected to the driver domain"),
                Link::Down => tracing::info!("waiting for the driver domain"),
                Link::Closed => tracing::warn!("the connection to the driver domain has ended"),
            }
        }
        busy
    }

    /// Sleeps until something comes, or until `until`.
    pub fn wait(&mut self, until: Instant) {
        self.frontend.wait(until.min(self.look_at));
    }

    fn give_to_stack(&mut self) -> bool {
        let given = self.tap.as_ref().and_then(|tap| self.frontend.give_to_stack(tap));
        self.refused += given.map_or(0, |given| given.refused as u64);
        given.is_some()
    }

    /// Bonds the VF when it is there, and lets it go when it is not.
    fn follow_vf(&mut self, now: Instant) {
        if let Some(vf) = &self.vf {
            if self.finder.is_there(vf) {
                return;
            }
            tracing::info!(interface = vf.name, "the VF has gone");
            self.vf = None;
            self.vf_lost += self.frontend.detach_vf().map_or(0, |vf| vf.lost());
            self.frontend.flush(now);
        }
        match self.finder.find(&self.which, self.mac()) {
            Ok(None) => self.complaint.clear(),
            Ok(Some(found)) => self.bond(found),
            Err(other) => {
                let mac = self.mac();
                self.complain(format!(
                    "the interface that is named as VF has the address {:?}, the vif has {mac}: set \
                     the VF's in the driver domain (`vf` of its [[guest]])",
                    other.has
                ));
            }
        }
    }

    fn bond(&mut self, found: Found) {
        // No addresses on it: the guest's own is on our interface.
        let config =
            PacketConfig { interface: found.name.clone(), promiscuous: false, quiet: true };
        match PacketPort::open(&self.host, &config) {
            Ok(port) => {
                tracing::info!(interface = found.name, "the VF is bonded");
                self.frontend.attach_vf(port);
                self.vf = Some(found);
                self.complaint.clear();
            }
            Err(error) => self.complain(format!("the VF cannot be bonded: {error}")),
        }
    }

    /// Logs it, if it is not what was logged last.
    fn complain(&mut self, complaint: String) {
        if self.complaint != complaint {
            tracing::warn!("{complaint}");
            self.complaint = complaint;
        }
    }

    /// Says goodbye to the driver domain, and waits for its answer until `until`: then it has let
    /// go of our pages. Frames that have come go to the stack.
    pub fn close(&mut self, until: Instant, vif: u32) {
        self.frontend.close();
        loop {
            let now = self.host.now();
            let mut busy = self.frontend.poll(now);
            busy |= self.give_to_stack();
            busy |= self.frontend.flush(now);
            if self.frontend.link() != Link::Up && device::is_closed(&self.host, vif) {
                return;
            }
            if now >= until {
                tracing::warn!("the driver domain has not answered that the interface is closed");
                return;
            }
            if !busy {
                self.frontend.wait(until.min(now + Duration::from_millis(20)));
            }
        }
    }

    /// How things are.
    pub fn report(&mut self) -> Report {
        Report {
            domid: self.host.domid(),
            interface: self.interface.clone(),
            mac: self.mac(),
            link: self.frontend.link(),
            vf: self
                .vf
                .as_ref()
                .map(|vf| (vf.name.clone(), self.frontend.vf().is_some_and(NicPort::link))),
            direct: self.frontend.direct_channels(),
            outstanding: self.frontend.outstanding(),
            queued: self.frontend.queued() + self.frontend.received(),
            refused: self.refused,
            vf_lost: self.vf_lost + self.frontend.vf().map_or(0, PacketPort::lost),
            counters: *self.frontend.counters(),
        }
    }
}

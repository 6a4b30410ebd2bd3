//! All counters of a host at one moment, and what follows from two of them.

use std::collections::BTreeMap;
use std::time::Duration;

use xenvelope_frontend::Ways;

use crate::host::{CpuTimes, ExternalSnapshot, GuestSnapshot, Host, HostError};
use crate::machine::CounterSnapshot;

/// All counters of a host at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    guests: BTreeMap<String, GuestSnapshot>,
    driver_domain: CounterSnapshot,
    external: ExternalSnapshot,
    cpu: CpuTimes,
    /// Bytes of DMA of all the card's ports, descriptors and write-backs too.
    pub bus_bytes: u64,
}

/// What one domain did between two samples.
#[derive(Clone, PartialEq, Debug)]
pub struct DomainShare {
    /// Its name.
    pub name: String,
    /// Processor time of its thread.
    pub cpu: Duration,
    /// What it made the host do.
    pub counters: CounterSnapshot,
    /// Bytes of frames that it moved, or had the hypervisor move.
    pub copied_bytes: u64,
    /// What it sent, by which way; nothing for the driver domain.
    pub sent_by: Ways,
}

/// The copy engine's name in tables.
pub const ENGINE: &str = "engine";

/// The driver domain's name in tables.
const DRIVER_DOMAIN: &str = "driver-domain";

impl Sample {
    /// Takes one.
    pub fn take(host: &Host) -> Result<Sample, HostError> {
        let mut guests = BTreeMap::new();
        for guest in &host.guests {
            guests.insert(guest.name.clone(), guest.snapshot()?);
        }
        Ok(Sample {
            guests,
            driver_domain: host.driver_domain.domain.counters(),
            external: host.external.snapshot()?,
            cpu: host.cpu(),
            bus_bytes: host.nic.total_counters().total(),
        })
    }

    /// What every domain made the host do since `earlier`.
    fn domains<'a>(
        &'a self,
        earlier: &'a Sample,
    ) -> impl Iterator<Item = (&'a str, CounterSnapshot)> + 'a {
        let guests = self.guests.iter().filter_map(|(name, now)| {
            let before = earlier.guests.get(name)?;
            Some((name.as_str(), now.domain - before.domain))
        });
        guests.chain([(DRIVER_DOMAIN, self.driver_domain - earlier.driver_domain)])
    }

    /// What each domain did since `earlier`: the guests by name, then the driver domain.
    pub fn shares(&self, earlier: &Sample) -> Vec<DomainShare> {
        let copied = self.copied(earlier);
        let cpu = self.cpu(earlier);
        self.domains(earlier)
            .map(|(name, counters)| {
                let ways = |sample: &Sample| {
                    sample.guests.get(name).map(|guest| guest.frontend.sent_by).unwrap_or_default()
                };
                DomainShare {
                    name: name.to_owned(),
                    cpu: cpu.guests.get(name).copied().unwrap_or(cpu.driver_domain),
                    counters,
                    copied_bytes: copied.get(name).copied().unwrap_or(0),
                    sent_by: since(ways(self), ways(earlier)),
                }
            })
            .collect()
    }

    /// Processor time since `earlier`.
    pub fn cpu(&self, earlier: &Sample) -> CpuTimes {
        self.cpu.since(&earlier.cpu)
    }

    /// Frames that the stacks of all guests sent since `earlier`.
    pub fn sent(&self, earlier: &Sample) -> u64 {
        self.frontends(earlier, |guest| guest.frontend.sent.frames)
    }

    /// Ports that domains found pending and looked at since `earlier`, by everybody.
    pub fn ports_polled(&self, earlier: &Sample) -> u64 {
        self.domains(earlier).map(|(_, counters)| counters.events_received).sum()
    }

    /// Sums something of the frontends since `earlier`.
    fn frontends(&self, earlier: &Sample, of: impl Fn(&GuestSnapshot) -> u64) -> u64 {
        let sum = |sample: &Sample| sample.guests.values().map(&of).sum::<u64>();
        sum(self) - sum(earlier)
    }

    /// Frames that the stack of `name` sent since `earlier`.
    pub fn sent_by(&self, earlier: &Sample, name: &str) -> u64 {
        let sent = |sample: &Sample| match sample.guests.get(name) {
            Some(guest) => guest.frontend.sent.frames,
            None => sample.external.sent,
        };
        sent(self) - sent(earlier)
    }

    /// Calls into the hypervisor since `earlier`, by everybody.
    pub fn hypercalls(&self, earlier: &Sample) -> u64 {
        self.domains(earlier).map(|(_, counters)| counters.hypercalls).sum()
    }

    /// Events since `earlier`, sent by everybody.
    pub fn events(&self, earlier: &Sample) -> u64 {
        self.domains(earlier).map(|(_, counters)| counters.events_sent).sum()
    }

    /// Entries of grant tables made valid since `earlier`, by everybody.
    pub fn grants(&self, earlier: &Sample) -> u64 {
        self.domains(earlier).map(|(_, counters)| counters.grants).sum()
    }

    /// Entries of grant tables taken back since `earlier`, or tried to be, by everybody.
    pub fn revokes(&self, earlier: &Sample) -> u64 {
        self.domains(earlier).map(|(_, counters)| counters.revokes).sum()
    }

    /// Frames in envelopes, and envelopes that carry frames, since `earlier`.
    pub fn in_envelopes(&self, earlier: &Sample) -> (u64, u64) {
        let frames = self.frontends(earlier, |guest| {
            guest.frontend.inlined_frames + guest.frontend.granted_frames
        });
        (frames, self.frontends(earlier, |guest| guest.frontend.envelopes_sent))
    }

    /// Bytes of frames since `earlier` that went inside envelopes: reported apart from copies.
    pub fn inlined_bytes(&self, earlier: &Sample) -> u64 {
        self.frontends(earlier, |guest| guest.frontend.inlined_bytes)
    }

    /// Bytes of frames since `earlier` that were not inlined.
    pub fn frame_bytes(&self, earlier: &Sample) -> u64 {
        let sent = self.frontends(earlier, |guest| guest.frontend.sent.bytes);
        let outside = self.external.sent_bytes - earlier.external.sent_bytes;
        sent + outside - self.inlined_bytes(earlier)
    }

    /// Bytes of tags that were copied since `earlier` with what envelopes granted: reported apart
    /// from copies.
    pub fn tag_bytes(&self, earlier: &Sample) -> u64 {
        self.frontends(earlier, |guest| guest.frontend.tag_bytes)
    }

    /// Bytes of frames that the copy engine moved since `earlier`, tags included.
    fn moved_by_engine(&self, earlier: &Sample) -> u64 {
        self.domains(earlier).map(|(_, counters)| counters.engine_bytes).sum()
    }

    /// Bytes of frames that were moved since `earlier`, by whom: for each domain what the
    /// hypervisor copied for it, and what its driver moved to put a received frame into one
    /// piece; what the copy engine copied for all of them. But for tags.
    pub fn copied(&self, earlier: &Sample) -> BTreeMap<String, u64> {
        // Who copies with the engine has the engine copy the tags too.
        let engine = self.moved_by_engine(earlier);
        let engine = engine.saturating_sub(if engine > 0 { self.tag_bytes(earlier) } else { 0 });
        self.domains(earlier)
            .map(|(name, counters)| {
                let counts = |sample: &Sample| {
                    let frontend = sample.guests.get(name).map(|guest| &guest.frontend);
                    frontend.map_or((0, 0), |counts| (counts.linearised_bytes, counts.tag_bytes))
                };
                let ((pieced, tags), (pieced_before, tags_before)) =
                    (counts(self), counts(earlier));
                let moved = counters.copied_bytes + pieced - pieced_before;
                let tags = if counters.engine_bytes > 0 { 0 } else { tags - tags_before };
                (name.to_owned(), moved.saturating_sub(tags))
            })
            .chain([(ENGINE.to_owned(), engine)])
            .filter(|(_, bytes)| *bytes > 0)
            .collect()
    }
}

fn since(now: Ways, earlier: Ways) -> Ways {
    Ways {
        vf_frames: now.vf_frames - earlier.vf_frames,
        netif_frames: now.netif_frames - earlier.netif_frames,
        queue_frames: now.queue_frames - earlier.queue_frames,
        envelopes_vf: now.envelopes_vf - earlier.envelopes_vf,
        envelopes_driver_domain: now.envelopes_driver_domain - earlier.envelopes_driver_domain,
        envelopes_direct: now.envelopes_direct - earlier.envelopes_direct,
        enveloped_vf: now.enveloped_vf - earlier.enveloped_vf,
        enveloped_driver_domain: now.enveloped_driver_domain - earlier.enveloped_driver_domain,
        enveloped_direct: now.enveloped_direct - earlier.enveloped_direct,
    }
}

//! Lines of counters.

use std::collections::BTreeMap;
use std::time::Instant;

use xenvelope_frontend::Ways;

use crate::host::{Host, HostError, User};
use crate::measure::Sample;

/// Counters of a host at one moment.
struct Moment {
    at: Instant,
    sample: Sample,
    /// Frames that stacks sent, by the way that they took.
    ways: [(&'static str, u64); 6],
    bytes: u64,
    drops: BTreeMap<String, u64>,
}

impl Moment {
    fn take(host: &Host) -> Result<Moment, HostError> {
        let (mut by, mut bytes) = (Ways::default(), 0);
        for guest in &host.guests {
            let counters = guest.snapshot()?.frontend;
            let ways = counters.sent_by;
            bytes += counters.sent.bytes;
            by.vf_frames += ways.vf_frames;
            by.netif_frames += ways.netif_frames;
            by.enveloped_vf += ways.enveloped_vf;
            by.enveloped_driver_domain += ways.enveloped_driver_domain;
            by.enveloped_direct += ways.enveloped_direct;
        }
        let outside = host.external.snapshot()?;
        let mut drops = host.ledger()?.drops;
        for guest in &host.guests {
            let refused = guest.call(|guest| match &guest.user {
                User::System(tap) => tap.refused,
                _ => 0,
            })?;
            if refused > 0 {
                *drops.entry("stack/refused".to_owned()).or_insert(0) += refused;
            }
        }
        Ok(Moment {
            at: Instant::now(),
            sample: Sample::take(host)?,
            ways: [
                ("nic-frame", by.vf_frames),
                ("nic-envelope", by.enveloped_vf),
                ("direct-envelope", by.enveloped_direct),
                ("switch-envelope", by.enveloped_driver_domain),
                ("netif", by.netif_frames),
                ("from outside", outside.sent),
            ],
            bytes: bytes + outside.sent_bytes,
            drops,
        })
    }

    /// What came on top since `earlier`: frames by their ways, rate, copies, drops.
    fn since(&self, earlier: &Moment) -> String {
        let seconds = self.at.duration_since(earlier.at).as_secs_f64().max(1e-9);
        let ways: Vec<(&str, u64)> = self
            .ways
            .iter()
            .zip(&earlier.ways)
            .map(|((name, now), (_, before))| (*name, now - before))
            .filter(|(_, frames)| *frames > 0)
            .collect();
        let frames: u64 = ways.iter().map(|(_, frames)| frames).sum();
        let gbit = (self.bytes - earlier.bytes) as f64 * 8.0 / seconds / 1e9;
        let moved: u64 = self.sample.copied(&earlier.sample).values().sum();
        let copies = moved as f64 / self.sample.frame_bytes(&earlier.sample).max(1) as f64;
        let drops: Vec<(&str, u64)> = self
            .drops
            .iter()
            .map(|(name, now)| {
                (name.as_str(), now.saturating_sub(earlier.drops.get(name).copied().unwrap_or(0)))
            })
            .filter(|(_, frames)| *frames > 0)
            .collect();
        format!(
            "{frames} frames sent{}, {gbit:.3} Gbit/s, copies {copies:.2}, drops {}{}",
            listed(&ways),
            drops.iter().map(|(_, frames)| frames).sum::<u64>(),
            listed(&drops)
        )
    }
}

/// In brackets, if there is anything.
fn listed(counts: &[(&str, u64)]) -> String {
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// The counters of a run.
pub(super) struct Status {
    first: Moment,
    last: Option<Moment>,
}

impl Status {
    pub(super) fn begin(host: &Host) -> Result<Status, HostError> {
        Ok(Status { first: Moment::take(host)?, last: None })
    }

    /// When the last line was made, or the run began.
    pub(super) fn last(&self) -> Instant {
        self.last.as_ref().unwrap_or(&self.first).at
    }

    /// What has been since the last line.
    pub(super) fn line(&mut self, host: &Host) -> Result<String, HostError> {
        let now = Moment::take(host)?;
        let line = now.since(self.last.as_ref().unwrap_or(&self.first));
        let line = format!("{:.0} s: {line}", now.at.duration_since(self.first.at).as_secs_f64());
        self.last = Some(now);
        Ok(line)
    }

    /// What has been in all.
    pub(super) fn last_line(&self, host: &Host) -> Result<String, HostError> {
        let now = Moment::take(host)?;
        let seconds = now.at.duration_since(self.first.at).as_secs_f64();
        Ok(format!("in all, {seconds:.0} s: {}", now.since(&self.first)))
    }
}

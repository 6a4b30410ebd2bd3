//! How things are: the status file, and a line in the log.

use serde_json::{Map, Value, json};
use xenvelope_backend::Counters;

/// What there is to say.
pub struct Report<'a> {
    /// The epoch of this start.
    pub epoch: u64,
    /// Interfaces that carry frames.
    pub connected: usize,
    /// The uplink's interface, if there is one.
    pub uplink: Option<&'a str>,
    /// Frames that were lost at the uplink's interface: among those sent, or before they came.
    pub uplink_lost: u64,
    /// What has been done.
    pub counters: &'a Counters,
}

impl Report<'_> {
    /// As one JSON object.
    pub fn json(&self) -> Value {
        let counters = self.counters;
        let drops: Map<String, Value> = counters
            .reasons()
            .map(|(reason, count)| (reason.name().to_owned(), count.into()))
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "epoch": self.epoch,
            "connected": self.connected,
            "uplink": self.uplink,
            "counters": {
                "netif-in": counters.netif_in,
                "netif-out": counters.netif_out,
                "envelopes-forwarded": counters.envelopes_forwarded,
                "envelopes-taken": counters.envelopes_taken,
                "uplink-in": counters.uplink_in,
                "uplink-out": counters.uplink_out,
                "uplink-lost": self.uplink_lost,
                "flood-extra": counters.flood_extra,
                "adopted": counters.adopted,
                "waited": counters.waited,
                "closed-hostile": counters.closed_hostile,
                "dropped": counters.dropped(),
            },
            "drops": drops,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenvelope_backend::DropReason;

    #[test]
    fn every_reason_has_its_name() {
        let mut counters = Counters::default();
        counters.drop_frames(DropReason::Policy, 3);
        let (uplink, counters) = (Some("up"), &counters);
        let report = Report { epoch: 7, connected: 2, uplink, uplink_lost: 5, counters }.json();
        assert_eq!(report["drops"], json!({ "policy": 3 }));
        assert_eq!(report["counters"]["dropped"], 3);
        assert_eq!(report["counters"]["uplink-lost"], 5);
        assert_eq!((&report["epoch"], &report["uplink"]), (&json!(7), &json!("up")));
    }
}

//! How things are: the status file, and a line in the log.

use serde_json::{Map, Value, json};
use xenvelope_frontend::counters::Ways;
use xenvelope_frontend::{Counters, Link};
use xenvelope_grant::DomId;
use xenvelope_switch::MacAddress;

/// What there is to say.
pub struct Report {
    /// Our domain.
    pub domid: DomId,
    /// The interface that we made.
    pub interface: String,
    /// Its address.
    pub mac: MacAddress,
    /// The connection to the driver domain.
    pub link: Link,
    /// The VF that is bonded, and whether it has a link.
    pub vf: Option<(String, bool)>,
    /// Direct channels that are up.
    pub direct: usize,
    /// Grants that no done has come for, and those that a peer keeps.
    pub outstanding: usize,
    /// Frames on their way through us.
    pub queued: usize,
    /// Frames that the stack did not take.
    pub refused: u64,
    /// Frames that were lost at the VF's interface: among those sent by it, or before they came.
    pub vf_lost: u64,
    /// What has been done.
    pub counters: Counters,
}

impl Report {
    /// As one JSON object. Frames that the stack did not take are no delivered ones: sent =
    /// delivered + drops, over all guests.
    pub fn json(&self) -> Value {
        let counters = &self.counters;
        let mut drops: Map<String, Value> = counters
            .reasons()
            .map(|(reason, count)| (reason.name().to_owned(), count.into()))
            .collect();
        if self.refused > 0 {
            drops.insert("stack-refused".to_owned(), self.refused.into());
        }
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "domid": self.domid.0,
            "interface": self.interface,
            "mac": self.mac.to_string(),
            "link": match self.link {
                Link::Down => "down",
                Link::Up => "up",
                Link::Closed => "closed",
            },
            "vf": self.vf.as_ref().map(|(name, link)| json!({ "name": name, "link": link })),
            "direct": self.direct,
            "outstanding": self.outstanding,
            "queued": self.queued,
            "counters": {
                "sent-frames": counters.sent.frames,
                "sent-bytes": counters.sent.bytes,
                "delivered-frames": counters.delivered.frames.saturating_sub(self.refused),
                "delivered-bytes": counters.delivered.bytes,
                "inlined-frames": counters.inlined_frames,
                "inlined-bytes": counters.inlined_bytes,
                "granted-frames": counters.granted_frames,
                "sent-by": ways(&counters.sent_by),
                "received-by": ways(&counters.received_by),
                "envelopes-sent": counters.envelopes_sent,
                "dones-sent": counters.dones_sent,
                "envelopes-received": counters.envelopes_received,
                "timed-out": counters.timed_out,
                "changed-underway": counters.changed_underway,
                "pinned": counters.pinned,
                "failed-by-backend": counters.failed_by_backend,
                "linearised-bytes": counters.linearised_bytes,
                "tag-bytes": counters.tag_bytes,
                "bad-dones": counters.bad_dones,
                "rerouted": counters.rerouted,
                "tables-attached": counters.tables_attached,
                "tables-refused": counters.tables_refused,
                "connections": counters.connections,
                "vf-lost": self.vf_lost,
                "dropped": counters.dropped() + self.refused,
            },
            "drops": drops,
        })
    }
}

fn ways(ways: &Ways) -> Value {
    json!({
        "vf-frames": ways.vf_frames,
        "netif-frames": ways.netif_frames,
        "queue-frames": ways.queue_frames,
        "envelopes-vf": ways.envelopes_vf,
        "envelopes-driver-domain": ways.envelopes_driver_domain,
        "envelopes-direct": ways.envelopes_direct,
        "enveloped-vf": ways.enveloped_vf,
        "enveloped-driver-domain": ways.enveloped_driver_domain,
        "enveloped-direct": ways.enveloped_direct,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenvelope_frontend::DropReason;

    #[test]
    fn what_the_stack_refused_is_a_drop() {
        let mut counters = Counters::default();
        counters.delivered.frames = 10;
        counters.drop_frames(DropReason::NoPath, 2);
        let report = Report {
            domid: DomId(3),
            interface: "xenv0".to_owned(),
            mac: MacAddress([0, 0x16, 0x3e, 0, 0, 1]),
            link: Link::Up,
            vf: Some(("eth1".to_owned(), true)),
            direct: 1,
            outstanding: 0,
            queued: 0,
            refused: 4,
            vf_lost: 5,
            counters,
        };
        let json = report.json();
        assert_eq!(json["drops"], json!({ "no-path": 2, "stack-refused": 4 }));
        assert_eq!(json["counters"]["dropped"], 6);
        assert_eq!(json["counters"]["delivered-frames"], 6);
        assert_eq!(json["counters"]["vf-lost"], 5);
        assert_eq!(json["vf"], json!({ "name": "eth1", "link": true }));
        assert_eq!((&json["link"], &json["domid"]), (&json!("up"), &json!(3)));
    }
}

//! What the table shows, in plain words. Every number is one of the table's.

use super::Report;
use crate::measure::{CellResult, ENGINE, RouteName};

/// Two or three sentences, as far as the cells that they speak of were measured.
pub(super) fn sentences(report: &Report) -> Vec<String> {
    let largest = report.cells.iter().map(|cell| cell.frame_bytes).max().unwrap_or(0);
    let find = |route: RouteName| -> Option<&CellResult> {
        report.cells.iter().find(|cell| cell.cell.route == route && cell.frame_bytes == largest)
    };
    let mut sentences = Vec::new();
    if let (Some(frame), Some(envelope)) = (find(RouteName::NicFrame), find(RouteName::NicEnvelope))
    {
        sentences.push(format!(
            "Through the card's switch, {largest}-byte frames put {:.0} % of the payload on the I/O bus as frames and {:.1} % as envelopes; {}.",
            frame.bus_bytes_per_payload_byte * 100.0,
            envelope.bus_bytes_per_payload_byte * 100.0,
            compare("envelopes carry", envelope.gbit_per_s, "frames", frame.gbit_per_s),
        ));
    }
    if let (Some(bridge), Some(switch)) =
        (find(RouteName::BridgeCopy), find(RouteName::SwitchEnvelope))
    {
        sentences.push(format!(
            "Through the driver domain, a bridge moves each byte {:.2} times, by {}; an envelope has {} move it {:.2} times, and {}.",
            bridge.copies_per_packet(),
            who(bridge),
            who(switch),
            switch.copies_per_packet(),
            compare("carries", switch.gbit_per_s, "the bridge", bridge.gbit_per_s),
        ));
    }
    if let (Some(switch), Some(direct)) =
        (find(RouteName::SwitchEnvelope), find(RouteName::DirectEnvelope))
        && let (Some((switch_rtt, _)), Some((direct_rtt, _))) = (switch.rtt_us, direct.rtt_us)
    {
        sentences.push(format!(
            "A direct channel answers in {direct_rtt:.0} µs, the way through the driver domain's switch in {switch_rtt:.0} µs (median round trip).",
        ));
    }
    sentences
}

fn who(cell: &CellResult) -> &str {
    match cell.copied_by.first() {
        Some((name, _)) if name == ENGINE => "the copy engine",
        Some((name, _)) => name,
        None => "nobody",
    }
}

fn compare(verb: &str, ours: f64, other: &str, theirs: f64) -> String {
    format!("{verb} {ours:.1} Gbit/s where {other} carries {theirs:.1}")
        .replace("frames carries", "frames carry")
}

//! The report for people.

use xenvelope_grant::seam::Mechanism;

use super::Report;
use super::sentences::sentences;
use super::table::table;
use crate::measure::{FlipResult, FrameSize};

/// The report for people.
pub fn text(report: &Report) -> String {
    let ledger = &report.ledger;
    let mut lines = vec![
        table(report),
        "copies, calls (hypercalls) and events are for each packet of the sending stack, by \
         everybody together;"
            .to_owned(),
        "copies: bytes moved by processors over bytes of frames that were not inlined; bus B/B: \
         DMA bytes for each payload byte."
            .to_owned(),
        report.card.to_string(),
        report.costs_line(),
        format!(
            "sent {} + made by switches {} = delivered {} + dropped {}\n",
            ledger.sent,
            ledger.made,
            ledger.delivered,
            ledger.dropped()
        ),
    ];
    if report.mechanism != Mechanism::Destination {
        lines.insert(1, format!("grant mechanism: {}", report.mechanism));
    }
    lines.extend(sentences(report));
    lines.join("\n")
}

/// The transfer whose route changed, for people.
pub fn flip_text(flip: &FlipResult, frame: FrameSize) -> String {
    let mut lines = vec![format!(
        "one transfer, {} → {}, {} bytes a frame:",
        flip.from,
        flip.to,
        frame.bytes()
    )];
    for phase in &flip.phases {
        lines.push(format!(
            "  {:<28} {:>6.2} Gbit/s   I/O bus {:>6.1} % of the payload   stood still {:>4} ms",
            phase.name,
            phase.gbit_per_s,
            phase.bus_bytes_per_payload_byte * 100.0,
            phase.stalled.as_millis()
        ));
    }
    lines.push(format!(
        "  {} bytes in {} passes of the file; SHA-256 {}\n",
        flip.payload_bytes,
        flip.passes,
        if flip.sha256_ok { "right" } else { "WRONG" }
    ));
    lines.join("\n")
}

//! For people: a table.

use comfy_table::{CellAlignment, Table, presets};

use super::Report;
use crate::measure::CellResult;

const HEADINGS: [&str; 13] = [
    "route",
    "from → to",
    "frame",
    "Gbit/s",
    "kpkt/s",
    "copies",
    "by",
    "calls",
    "events",
    "fr/env",
    "bus B/B",
    "rtt p50/p99 µs",
    "drops",
];

/// The report's cells as a table. `copies`, `calls` and `events` are for each packet.
pub(super) fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(HEADINGS);
    for column in [2, 3, 4, 5, 7, 8, 9, 10, 11] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for cell in &report.cells {
        table.add_row(row(cell));
    }
    table.to_string()
}

fn row(cell: &CellResult) -> [String; 13] {
    let by: Vec<String> = match &cell.copied_by[..] {
        [(name, share)] if *share > 0.99 => vec![name.clone()],
        many => many.iter().map(|(name, share)| format!("{name} {:.0}%", share * 100.0)).collect(),
    };
    let drops: Vec<String> =
        cell.drops.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let dash = || "-".to_owned();
    [
        if cell.sha256_ok {
            cell.cell.route.name().to_owned()
        } else {
            format!("{} (SHA-256 WRONG)", cell.cell.route.name())
        },
        format!("{} → {}", cell.cell.from, cell.cell.to),
        cell.frame_bytes.to_string(),
        format!("{:.2}", cell.gbit_per_s),
        format!("{:.1}", cell.packets_per_s / 1000.0),
        format!("{:.2}", cell.payload_copies_per_packet),
        if by.is_empty() || !cell.is_copied() { dash() } else { by.join(", ") },
        format!("{:.3}", cell.hypercalls_per_packet),
        format!("{:.3}", cell.events_per_packet),
        cell.frames_per_envelope.map_or_else(dash, |frames| format!("{frames:.1}")),
        format!("{:.4}", cell.bus_bytes_per_payload_byte),
        cell.rtt_us.map_or_else(dash, |(p50, p99)| format!("{p50:.0} / {p99:.0}")),
        if drops.is_empty() { "0".to_owned() } else { drops.join(", ") },
    ]
}

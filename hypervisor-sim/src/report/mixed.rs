//! Transfers that ran at the same time: by pair, and by domain.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::measure::{DomainShare, Mixed};

/// The headings of the table of pairs.
pub const PAIR_HEADINGS: [&str; 6] = ["route", "from → to", "Gbit/s", "MB", "passes", "SHA-256"];
/// The headings of the table of domains.
pub const DOMAIN_HEADINGS: [&str; 11] = [
    "domain",
    "CPU s",
    "copied MB",
    "calls",
    "events",
    "polled",
    "vf",
    "vf env",
    "dd env",
    "direct",
    "netif",
];

fn table<const N: usize>(headings: [&str; N], words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(headings);
    for column in words..N {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// What a domain's frames went by: VF as they are, VF in envelopes, the driver domain's switch in
/// envelopes, direct channels, netif.
fn ways(share: &DomainShare) -> [u64; 5] {
    let ways = share.sent_by;
    [
        ways.vf_frames,
        ways.enveloped_vf,
        ways.enveloped_driver_domain,
        ways.enveloped_direct,
        ways.netif_frames,
    ]
}

fn row(name: &str, shares: &[DomainShare]) -> Vec<String> {
    let sum = |of: &dyn Fn(&DomainShare) -> u64| shares.iter().map(of).sum::<u64>();
    let cpu: f64 = shares.iter().map(|share| share.cpu.as_secs_f64()).sum();
    let mut row = vec![
        name.to_owned(),
        format!("{cpu:.2}"),
        megabytes(sum(&|share| share.copied_bytes)),
        sum(&|share| share.counters.hypercalls).to_string(),
        sum(&|share| share.counters.events_sent).to_string(),
        sum(&|share| share.counters.events_received).to_string(),
    ];
    row.extend((0..5).map(|way| sum(&|share| ways(share)[way]).to_string()));
    row
}

/// For people.
pub fn mixed_text(mixed: &Mixed) -> String {
    let mut pairs = table(PAIR_HEADINGS, 2);
    for pair in &mixed.pairs {
        pairs.add_row([
            pair.pair.route.name().to_owned(),
            format!("{} → {}", pair.pair.from, pair.pair.to),
            format!("{:.2}", pair.gbit_per_s),
            megabytes(pair.payload_bytes),
            pair.passes.to_string(),
            if pair.sha256_ok { "right" } else { "WRONG" }.to_owned(),
        ]);
    }
    let all: f64 = mixed.pairs.iter().map(|pair| pair.gbit_per_s).sum();
    pairs.add_row([
        "all".to_owned(),
        String::new(),
        format!("{all:.2}"),
        megabytes(mixed.payload_bytes()),
        mixed.pairs.iter().map(|pair| pair.passes).sum::<u64>().to_string(),
        if mixed.all_right() { "right" } else { "WRONG" }.to_owned(),
    ]);
    let mut domains = table(DOMAIN_HEADINGS, 1);
    for share in &mixed.domains {
        domains.add_row(row(&share.name, std::slice::from_ref(share)));
    }
    domains.add_row(row("all", &mixed.domains));
    let ledger = &mixed.ledger;
    [
        format!(
            "{} transfers at the same time, {} bytes a frame, {:.2} s:",
            mixed.pairs.len(),
            mixed.frame_bytes,
            mixed.seconds
        ),
        pairs.to_string(),
        "Gbit/s: while all of them ran; MB, passes and what follows: from the first byte to the last"
            .to_owned(),
        domains.to_string(),
        "calls (hypercalls), events (sent), polled (ports found pending); frames sent by the VF as \
         they are and in envelopes, in envelopes by the driver domain's switch and direct, and by \
         netif"
            .to_owned(),
        format!(
            "I/O bus {} MB, {:.1} % of the payload",
            megabytes(mixed.bus_bytes),
            mixed.bus_bytes as f64 * 100.0 / mixed.payload_bytes().max(1) as f64
        ),
        format!(
            "sent {} + made by switches {} = delivered {} + dropped {}{}",
            ledger.sent,
            ledger.made,
            ledger.delivered,
            ledger.dropped(),
            drops(&ledger.drops),
        ),
    ]
    .join("\n")
}

fn drops(drops: &std::collections::BTreeMap<String, u64>) -> String {
    if drops.is_empty() {
        return String::new();
    }
    let each: Vec<String> = drops.iter().map(|(why, count)| format!("{why} {count}")).collect();
    format!(" ({})", each.join(", "))
}

/// For machines.
pub fn mixed_json(mixed: &Mixed) -> Value {
    let pairs: Vec<Value> = mixed
        .pairs
        .iter()
        .map(|pair| {
            json!({
                "route": pair.pair.route.name(), "from": pair.pair.from, "to": pair.pair.to,
                "gbit_per_s": pair.gbit_per_s, "payload_bytes": pair.payload_bytes,
                "passes": pair.passes, "sha256_ok": pair.sha256_ok,
            })
        })
        .collect();
    let domains: Vec<Value> = mixed
        .domains
        .iter()
        .map(|share| {
            let [vf, vf_envelopes, switch, direct, netif] = ways(share);
            json!({
                "domain": share.name, "cpu_s": share.cpu.as_secs_f64(),
                "copied_bytes": share.copied_bytes, "hypercalls": share.counters.hypercalls,
                "events_sent": share.counters.events_sent,
                "ports_polled": share.counters.events_received,
                "frames_sent": {
                    "vf": vf, "vf_envelopes": vf_envelopes, "switch_envelopes": switch,
                    "direct_envelopes": direct, "netif": netif,
                },
            })
        })
        .collect();
    let ledger = &mixed.ledger;
    json!({
        "frame_bytes": mixed.frame_bytes, "seconds": mixed.seconds, "pairs": pairs,
        "domains": domains, "bus_bytes": mixed.bus_bytes,
        "ledger": {
            "sent": ledger.sent, "made": ledger.made, "delivered": ledger.delivered,
            "drops": ledger.drops,
        },
    })
}

//! For machines: one object.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Report;
use crate::machine::Costs;
use crate::measure::CellResult;

#[derive(Serialize)]
struct Object<'r> {
    ideal: bool,
    mechanism: &'r str,
    costs_ns: CostsObject,
    bus_gbit: Option<f64>,
    nic: NicObject,
    guests: usize,
    payload: PayloadObject<'r>,
    flip: Option<FlipObject<'r>>,
    routes: Vec<RouteObject<'r>>,
    ledger: LedgerObject<'r>,
}

#[derive(Serialize)]
struct NicObject {
    #[serde(rename = "type")]
    kind: &'static str,
    vfs: usize,
    functions: &'static str,
    translation: &'static str,
}

#[derive(Serialize)]
struct CostsObject {
    hypercall: u64,
    event: u64,
    iommu_miss: u64,
    nic_latency: u64,
}

#[derive(Serialize)]
struct PayloadObject<'r> {
    file: &'r str,
    bytes: usize,
}

#[derive(Serialize)]
struct FlipObject<'r> {
    from: &'r str,
    to: &'r str,
    phases: Vec<PhaseObject<'r>>,
    payload_bytes: u64,
    passes: u64,
    sha256_ok: bool,
}

#[derive(Serialize)]
struct PhaseObject<'r> {
    name: &'r str,
    gbit_per_s: f64,
    bus_bytes_per_payload_byte: f64,
    stalled_ms: f64,
}

#[derive(Serialize)]
struct RouteObject<'r> {
    route: &'r str,
    from: &'r str,
    to: &'r str,
    frame_bytes: usize,
    gbit_per_s: f64,
    packets_per_s: f64,
    payload_copies_per_packet: f64,
    engine_copies_per_packet: f64,
    copied_by: BTreeMap<&'r str, f64>,
    hypercalls_per_packet: f64,
    events_per_packet: f64,
    grants_per_packet: f64,
    revokes_per_packet: f64,
    frames_per_envelope: Option<f64>,
    inlined_bytes: u64,
    tag_bytes: u64,
    bus_bytes_per_payload_byte: f64,
    rtt_p50_us: Option<f64>,
    rtt_p99_us: Option<f64>,
    drops: &'r BTreeMap<String, u64>,
    payload_bytes: u64,
    passes: u64,
    sha256_ok: bool,
}

#[derive(Serialize)]
struct LedgerObject<'r> {
    sent: u64,
    made: u64,
    delivered: u64,
    drops: &'r BTreeMap<String, u64>,
}

/// The report as one JSON object.
pub fn json(report: &Report) -> Result<String, serde_json::Error> {
    let Costs { hypercall_ns, event_ns, iommu_miss_ns, nic_latency_ns } = report.costs;
    let object = Object {
        ideal: report.costs == Costs::ideal(),
        mechanism: report.mechanism.name(),
        costs_ns: CostsObject {
            hypercall: hypercall_ns,
            event: event_ns,
            iommu_miss: iommu_miss_ns,
            nic_latency: nic_latency_ns,
        },
        bus_gbit: report.bus_gbit,
        nic: NicObject {
            kind: report.card.option(),
            vfs: report.card.vfs,
            functions: report.card.functions_name(),
            translation: report.card.translation_name(),
        },
        guests: report.guests,
        payload: PayloadObject { file: &report.payload.0, bytes: report.payload.1 },
        flip: report.flip.as_ref().map(|flip| FlipObject {
            from: &flip.from,
            to: &flip.to,
            phases: flip
                .phases
                .iter()
                .map(|phase| PhaseObject {
                    name: phase.name,
                    gbit_per_s: phase.gbit_per_s,
                    bus_bytes_per_payload_byte: phase.bus_bytes_per_payload_byte,
                    stalled_ms: phase.stalled.as_secs_f64() * 1000.0,
                })
                .collect(),
            payload_bytes: flip.payload_bytes,
            passes: flip.passes,
            sha256_ok: flip.sha256_ok,
        }),
        routes: report.cells.iter().map(route).collect(),
        ledger: LedgerObject {
            sent: report.ledger.sent,
            made: report.ledger.made,
            delivered: report.ledger.delivered,
            drops: &report.ledger.drops,
        },
    };
    serde_json::to_string_pretty(&object)
}

fn route(cell: &CellResult) -> RouteObject<'_> {
    RouteObject {
        route: cell.cell.route.name(),
        from: &cell.cell.from,
        to: &cell.cell.to,
        frame_bytes: cell.frame_bytes,
        gbit_per_s: cell.gbit_per_s,
        packets_per_s: cell.packets_per_s,
        payload_copies_per_packet: cell.payload_copies_per_packet,
        engine_copies_per_packet: cell.engine_copies_per_packet,
        copied_by: cell.copied_by.iter().map(|(name, share)| (name.as_str(), *share)).collect(),
        hypercalls_per_packet: cell.hypercalls_per_packet,
        events_per_packet: cell.events_per_packet,
        grants_per_packet: cell.grants_per_packet,
        revokes_per_packet: cell.revokes_per_packet,
        frames_per_envelope: cell.frames_per_envelope,
        inlined_bytes: cell.inlined_bytes,
        tag_bytes: cell.tag_bytes,
        bus_bytes_per_payload_byte: cell.bus_bytes_per_payload_byte,
        rtt_p50_us: cell.rtt_us.map(|(p50, _)| p50),
        rtt_p99_us: cell.rtt_us.map(|(_, p99)| p99),
        drops: &cell.drops,
        payload_bytes: cell.payload_bytes,
        passes: cell.passes,
        sha256_ok: cell.sha256_ok,
    }
}

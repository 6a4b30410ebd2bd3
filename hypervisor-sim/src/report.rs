//! What was measured, for people and for machines.

mod json;
mod mixed;
mod sentences;
mod sweep;
mod table;
mod text;

pub use json::json;
pub use mixed::{DOMAIN_HEADINGS, PAIR_HEADINGS, mixed_json, mixed_text};
pub use sweep::{SWEEP_HEADINGS, Verdict, summary, sweep_json, sweep_text, verdicts};
pub use text::{flip_text, text};

use xenvelope_grant::seam::Mechanism;

use crate::host::{CardSummary, Ledger};
use crate::machine::Costs;
use crate::measure::{CellResult, FlipResult};

/// A whole run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What calls, events and the card cost.
    pub costs: Costs,
    /// What the I/O bus carries in each direction, in Gbit/s.
    pub bus_gbit: Option<f64>,
    /// Which card there was.
    pub card: CardSummary,
    /// How the right to read reached the receivers of envelopes.
    pub mechanism: Mechanism,
    /// How many guests there were.
    pub guests: usize,
    /// The file that was sent, and its bytes.
    pub payload: (String, usize),
    /// The transfer whose route changed.
    pub flip: Option<FlipResult>,
    /// The cells.
    pub cells: Vec<CellResult>,
    /// The ledger of the whole run.
    pub ledger: Ledger,
}

impl Report {
    /// Whether every transfer arrived as it was sent.
    pub fn all_right(&self) -> bool {
        let flip = self.flip.as_ref().is_none_or(|flip| flip.sha256_ok);
        flip && self.cells.iter().all(|cell| cell.sha256_ok)
    }

    /// One line about what things cost in this run.
    pub fn costs_line(&self) -> String {
        let bus = match self.bus_gbit {
            Some(gbit) => format!("I/O bus {gbit} Gbit/s"),
            None => "I/O bus without limit".to_owned(),
        };
        let costs = self.costs;
        if costs == Costs::ideal() {
            return format!(
                "costs: --ideal, a hypercall, an event, an IOMMU miss and the card's latency are 0 ns; {bus}"
            );
        }
        format!(
            "costs: hypercall {} ns, event {} ns (Dall et al., ISCA 2016, table II, Xen x86: 1,228 and 5,562 cycles at 2.1 GHz), IOMMU miss {} ns, card {} ns (Neugebauer et al., SIGCOMM 2018); {bus}",
            costs.hypercall_ns, costs.event_ns, costs.iommu_miss_ns, costs.nic_latency_ns
        )
    }
}

//! A comparison for people and for machines.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{Attack, Compared, Comparison, Cost};
use crate::machine::Costs;

fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(headings);
    table
}

impl Comparison {
    /// For people.
    pub fn text(&self) -> String {
        let lines = [
            "Cost of a packet of the sending stack, by everybody together (measured):".to_owned(),
            self.costs_table(),
            "Attacks on a frame on its way (carried out):".to_owned(),
            self.attacks_table(),
            "Through the card's switch (tried), whom one must trust (by the attacks), and what this \
             code base changed:"
                .to_owned(),
            self.properties_table(),
        ];
        lines.join("\n")
    }

    fn costs_table(&self) -> String {
        let mut table = table([
            "mechanism",
            "route",
            "frame",
            "Gbit/s",
            "ns",
            "calls",
            "grants",
            "revokes",
            "copies",
            "SHA-256",
        ]);
        for column in 2..9 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for compared in &self.mechanisms {
            for cost in &compared.costs {
                table.add_row([
                    compared.mechanism.name().to_owned(),
                    cost.route.name().to_owned(),
                    cost.frame_bytes.to_string(),
                    format!("{:.2}", cost.gbit_per_s),
                    format!("{:.0}", cost.ns_per_packet),
                    format!("{:.3}", cost.hypercalls_per_packet),
                    format!("{:.2}", cost.grants_per_packet),
                    format!("{:.2}", cost.revokes_per_packet),
                    format!("{:.2}", cost.copies_per_packet),
                    if cost.sha256_ok { "right" } else { "WRONG" }.to_owned(),
                ]);
            }
        }
        table.to_string()
    }

    fn attacks_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        let names = self.mechanisms.iter().map(|compared| compared.mechanism.name());
        table.set_header(std::iter::once("attack").chain(names));
        for attack in Attack::ALL {
            let outcomes = self.mechanisms.iter().map(|compared| {
                let found = compared.attacks.iter().find(|(carried, _)| *carried == attack);
                found.map_or(
                    "-",
                    |(_, outcome)| if outcome.succeeded { "SUCCEEDS" } else { "fails" },
                )
            });
            table.add_row(std::iter::once(attack.name()).chain(outcomes));
        }
        table.to_string()
    }

    fn properties_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        let names = self.mechanisms.iter().map(|compared| compared.mechanism.name().to_owned());
        table.set_header(std::iter::once(String::new()).chain(names));
        table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic).set_width(150);
        let mut row = |name: &str, of: &dyn Fn(&Compared) -> String| {
            table.add_row(std::iter::once(name.to_owned()).chain(self.mechanisms.iter().map(of)));
        };
        row("hardware switch", &|compared| match compared.card {
            super::CardTrial { read: true, .. } => "works".to_owned(),
            super::CardTrial { arrived: true, .. } => {
                "does not work: the envelope arrives, the copy is refused".to_owned()
            }
            super::CardTrial { .. } => "does not work: the envelope does not arrive".to_owned(),
        });
        row("must be trusted", &|compared| compared.trusted().join("; "));
        let or_none = |text: &str| if text.is_empty() { "none" } else { text }.to_owned();
        row("changes: sender", &|compared| or_none(compared.changes.sender));
        row("changes: receiver", &|compared| or_none(compared.changes.receiver));
        row("changes: driver domain", &|compared| or_none(compared.changes.driver_domain));
        row("changes: hypervisor", &|compared| or_none(compared.changes.hypervisor));
        table.to_string()
    }

    /// For machines: one object.
    ///
    /// # Errors
    /// None that this text can have.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let mechanisms = self.mechanisms.iter().map(|compared| MechanismObject {
            mechanism: compared.mechanism.name(),
            transfers: compared.costs.iter().map(transfer).collect(),
            attacks: compared
                .attacks
                .iter()
                .map(|(attack, outcome)| {
                    let object = AttackObject {
                        name: attack.name(),
                        succeeded: outcome.succeeded,
                        receiver_could_read: outcome.delivered,
                        tried: &outcome.tried,
                    };
                    (attack.key(), object)
                })
                .collect(),
            hardware_switch: CardObject {
                works: compared.card.read,
                envelope_arrived: compared.card.arrived,
            },
            trusted: compared.trusted(),
            changes: ChangesObject {
                sender: compared.changes.sender,
                receiver: compared.changes.receiver,
                driver_domain: compared.changes.driver_domain,
                hypervisor: compared.changes.hypervisor,
            },
        });
        let ideal = self.costs == Costs::ideal();
        serde_json::to_string_pretty(&Object { ideal, mechanisms: mechanisms.collect() })
    }
}

fn transfer(cost: &Cost) -> TransferObject<'_> {
    TransferObject {
        route: cost.route.name(),
        frame_bytes: cost.frame_bytes,
        gbit_per_s: cost.gbit_per_s,
        ns_per_packet: cost.ns_per_packet,
        hypercalls_per_packet: cost.hypercalls_per_packet,
        grants_per_packet: cost.grants_per_packet,
        revokes_per_packet: cost.revokes_per_packet,
        copies_per_packet: cost.copies_per_packet,
        sha256_ok: cost.sha256_ok,
    }
}

#[derive(Serialize)]
struct Object<'c> {
    ideal: bool,
    mechanisms: Vec<MechanismObject<'c>>,
}

#[derive(Serialize)]
struct MechanismObject<'c> {
    mechanism: &'c str,
    transfers: Vec<TransferObject<'c>>,
    attacks: BTreeMap<&'c str, AttackObject<'c>>,
    hardware_switch: CardObject,
    trusted: Vec<&'c str>,
    changes: ChangesObject<'c>,
}

#[derive(Serialize)]
struct TransferObject<'c> {
    route: &'c str,
    frame_bytes: usize,
    gbit_per_s: f64,
    ns_per_packet: f64,
    hypercalls_per_packet: f64,
    grants_per_packet: f64,
    revokes_per_packet: f64,
    copies_per_packet: f64,
    sha256_ok: bool,
}

#[derive(Serialize)]
struct AttackObject<'c> {
    name: &'c str,
    succeeded: bool,
    receiver_could_read: bool,
    tried: &'c str,
}

#[derive(Serialize)]
struct CardObject {
    works: bool,
    envelope_arrived: bool,
}

#[derive(Serialize)]
struct ChangesObject<'c> {
    sender: &'c str,
    receiver: &'c str,
    driver_domain: &'c str,
    hypervisor: &'c str,
}

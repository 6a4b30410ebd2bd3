//! The table of what lab/bench measured: medians, ranges, and ratios to the stock path.
//!
//! The file has one JSON object a line: `setting`, which says what was run where, then one for
//! each measurement, `what` being `tcp`, `udp`, `rtt` or `idle`, with `error` if it came to
//! nothing, or `route` with `error` if its whole turn did.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::Verdict;

/// The path that the others are compared with.
const BASE: &str = "stock";
/// The path that has a goal: so many times the goodput, for so much of the processor time.
const AIM: &str = "direct";
const GOODPUT: f64 = 1.5;
const PROCESSOR: f64 = 0.7;
/// What a turn consists of.
const TURN: [&str; 3] = ["tcp", "udp", "rtt"];

#[derive(Deserialize)]
struct Setting {
    emulated: bool,
    host: String,
    qemu: Option<String>,
    xen: String,
    kernel: String,
    rounds: usize,
    bytes: u64,
    paths: Vec<String>,
}

#[derive(Deserialize)]
struct Line {
    what: String,
    round: usize,
    path: String,
    error: Option<String>,
    /// What the program that measured printed.
    #[serde(default)]
    result: Value,
    /// Processor seconds of each domain.
    cpu: Option<Cpu>,
    /// How long these were counted.
    window: Option<f64>,
}

#[derive(Deserialize, Clone, Copy)]
struct Cpu {
    dom0: f64,
    receiver: f64,
    sender: f64,
}

impl Cpu {
    fn all(self) -> f64 {
        self.dom0 + self.receiver + self.sender
    }
}

/// A column.
struct Column {
    name: &'static str,
    ratio: bool,
    digits: usize,
    value: fn(&Line, &Setting) -> Option<f64>,
}

const COLUMNS: [Column; 6] = [
    Column {
        name: "TCP Mbit/s",
        ratio: true,
        digits: 0,
        value: |line, _| of(line, "tcp", "mbit_s"),
    },
    Column {
        name: "UDP, 64 bytes, 1000/s",
        ratio: true,
        digits: 1,
        value: |line, _| Some(of(line, "udp", "received_per_s")? / 1e3),
    },
    Column {
        name: "round trip p50 ms",
        ratio: true,
        digits: 2,
        value: |line, _| Some(of(line, "rtt", "p50_us")? / 1e3),
    },
    Column {
        name: "p99 ms",
        ratio: false,
        digits: 2,
        value: |line, _| Some(of(line, "rtt", "p99_us")? / 1e3),
    },
    Column {
        name: "CPU s/GB",
        ratio: true,
        digits: 1,
        value: |line, setting| per_gigabyte(line, setting, Cpu::all),
    },
    Column {
        name: "dom0's part",
        ratio: false,
        digits: 1,
        value: |line, setting| per_gigabyte(line, setting, |cpu| cpu.dom0),
    },
];
const TCP: &Column = &COLUMNS[0];
const CPU: &Column = &COLUMNS[4];

fn of(line: &Line, what: &str, field: &str) -> Option<f64> {
    (line.what == what && line.error.is_none()).then(|| line.result[field].as_f64())?
}

fn per_gigabyte(line: &Line, setting: &Setting, part: fn(Cpu) -> f64) -> Option<f64> {
    let counted = line.what == "tcp" && line.error.is_none();
    counted.then_some(part(line.cpu?) * 1e9 / setting.bytes as f64)
}

/// Prints it.
pub fn print(file: &Path) -> Result<Verdict> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (table, complete) = table(&text)?;
    print!("{table}");
    Ok(if complete { Verdict::Good } else { Verdict::Bad })
}

/// The table, and whether nothing is missing.
fn table(text: &str) -> Result<(String, bool)> {
    let mut setting: Option<Setting> = None;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = || format!("line {}", number + 1);
        let value: Value = serde_json::from_str(line).with_context(wrong)?;
        if value["what"] == "setting" {
            setting = Some(serde_json::from_value(value).with_context(wrong)?);
        } else {
            lines.push(serde_json::from_value::<Line>(value).with_context(wrong)?);
        }
    }
    let setting = setting.context("no line says what was run where")?;
    let mut out = heading(&setting);
    out.push_str("| path |");
    for column in &COLUMNS {
        let ratio = if column.ratio { " ratio |" } else { "" };
        write!(out, " {} |{ratio}", column.name)?;
    }
    out.push_str("\n|---|");
    for column in &COLUMNS {
        out.push_str(if column.ratio { "--:|--:|" } else { "--:|" });
    }
    out.push('\n');
    for path in &setting.paths {
        write!(out, "| {path} |")?;
        for column in &COLUMNS {
            let values = values(column, path, &lines, &setting);
            write!(out, " {} |", cell(&values, column.digits))?;
            if column.ratio {
                let ratio = ratio(column, path, &lines, &setting);
                write!(out, " {} |", ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")))?;
            }
        }
        out.push('\n');
    }
    out.push('\n');
    idle(&mut out, &setting, &lines)?;
    goal(&mut out, &setting, &lines)?;
    let missing = missing(&setting, &lines);
    for one in &missing {
        writeln!(out, "\nMissing: {one}.")?;
    }
    Ok((out, missing.is_empty()))
}

fn heading(setting: &Setting) -> String {
    let Setting { host, qemu, xen, kernel, rounds, bytes, .. } = setting;
    let place = if setting.emulated {
        let qemu = qemu.as_deref().unwrap_or("an unknown version");
        format!("Under emulation, so only the ratios mean something: QEMU {qemu} (TCG) on {host}")
    } else {
        format!("On {host}")
    };
    format!(
        "{place}; Xen {xen}, Linux {kernel}. Medians (and ranges) of {rounds} alternating rounds, \
         {:.0} MB each by TCP; ratios of medians to {BASE}.\n\n",
        *bytes as f64 / 1e6
    )
}

/// Sorted.
fn values(column: &Column, path: &str, lines: &[Line], setting: &Setting) -> Vec<f64> {
    let mut values: Vec<f64> = lines
        .iter()
        .filter(|line| line.path == path)
        .filter_map(|line| (column.value)(line, setting))
        .collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> Option<f64> {
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some((sorted[low] + sorted[high]) / 2.0)
}

fn cell(sorted: &[f64], digits: usize) -> String {
    match (median(sorted), sorted) {
        (Some(median), [least, .., most]) => {
            format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
        }
        (Some(median), _) => format!("{median:.digits$}"),
        (None, _) => "-".to_owned(),
    }
}

fn ratio(column: &Column, path: &str, lines: &[Line], setting: &Setting) -> Option<f64> {
    let base = median(&values(column, BASE, lines, setting))?;
    let ratio = median(&values(column, path, lines, setting))? / base;
    ratio.is_finite().then_some(ratio)
}

/// What the domains use when nothing is sent. It is in the figures above.
fn idle(out: &mut String, setting: &Setting, lines: &[Line]) -> Result<()> {
    let used = |path: &String| {
        let line = lines.iter().find(|line| line.what == "idle" && line.path == *path)?;
        Some(format!("{path} {:.3}", line.cpu?.all() / line.window?))
    };
    let parts: Vec<String> = setting.paths.iter().filter_map(used).collect();
    if !parts.is_empty() {
        writeln!(
            out,
            "Idle, all domains together use of a processor: {}. It is not taken off above.",
            parts.join(", ")
        )?;
    }
    Ok(())
}

fn goal(out: &mut String, setting: &Setting, lines: &[Line]) -> Result<()> {
    let goodput = ratio(TCP, AIM, lines, setting);
    let processor = ratio(CPU, AIM, lines, setting);
    write!(out, "Goal for {AIM}, {GOODPUT} times the goodput and {PROCESSOR} of the CPU: ")?;
    match (goodput, processor) {
        (Some(goodput), Some(processor)) => {
            let met = goodput >= GOODPUT && processor <= PROCESSOR;
            let met = if met { "met" } else { "missed" };
            writeln!(out, "{met} ({goodput:.2} and {processor:.2}).")?;
        }
        _ => writeln!(out, "not measured.")?,
    }
    Ok(())
}

fn missing(setting: &Setting, lines: &[Line]) -> Vec<String> {
    let mut missing = Vec::new();
    for round in 1..=setting.rounds {
        for path in &setting.paths {
            for what in TURN {
                let mut tried =
                    lines.iter().filter(|line| line.round == round && line.path == *path);
                let found = tried.clone().find(|line| line.what == what);
                let why = match found {
                    Some(Line { error: None, .. }) => continue,
                    Some(Line { error, .. }) => error.clone(),
                    None => {
                        tried.find(|line| line.what == "route").and_then(|line| line.error.clone())
                    }
                };
                let why = why.unwrap_or_else(|| "was not reached".to_owned());
                missing.push(format!("{what} of {path} in round {round}: {why}"));
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: &str = r#"{"what":"setting","emulated":true,"host":"2 x a processor","qemu":"10.0.2","xen":"4.17.5","kernel":"6.1.0","rounds":2,"bytes":200000000,"paths":["stock","direct"]}"#;

    fn turn(round: usize, path: &str, mbit: f64, cpu: f64) -> String {
        let head = |what| format!(r#"{{"what":"{what}","round":{round},"path":"{path}","#);
        [
            format!(
                r#"{}"result":{{"ok":true,"mbit_s":{mbit}}},"window":9.5,"cpu":{{"dom0":0.5,"receiver":{cpu},"sender":0.5}}}}"#,
                head("tcp")
            ),
            format!(r#"{}"result":{{"received_per_s":10500}}}}"#, head("udp")),
            format!(r#"{}"result":{{"p50_us":3700,"p99_us":9000}}}}"#, head("rtt")),
        ]
        .join("\n")
    }

    #[test]
    fn medians_ranges_and_ratios() {
        let idle = r#"{"what":"idle","round":1,"path":"direct","window":10,"cpu":{"dom0":0.2,"receiver":0.05,"sender":0.05}}"#;
        let text = [
            SETTING,
            &turn(1, "stock", 300.0, 5.0),
            idle,
            &turn(1, "direct", 600.0, 1.0),
            &turn(2, "direct", 640.0, 2.0),
            &turn(2, "stock", 320.0, 5.0),
        ]
        .join("\n");
        let (table, complete) = table(&text).unwrap();
        assert!(complete, "{table}");
        for part in [
            "Under emulation, so only the ratios mean something: QEMU 10.0.2 (TCG) on 2 x a processor; Xen 4.17.5",
            "| stock | 310 (300-320) | 1.00 | 10.5 (10.5-10.5) | 1.00 | 3.70 (3.70-3.70) | 1.00 |",
            "| direct | 620 (600-640) | 2.00 |",
            // 6 s and 2.5 s for 0.2 GB.
            "| 30.0 (30.0-30.0) | 1.00 | 2.5 (2.5-2.5) |",
            "| 12.5 (10.0-15.0) | 0.42 | 2.5 (2.5-2.5) |",
            "direct 0.030. It is not",
            "met (2.00 and 0.42).",
        ] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let text = [
            SETTING,
            &turn(1, "stock", 300.0, 5.0),
            &turn(2, "stock", 301.0, 5.0),
            r#"{"what":"tcp","round":1,"path":"direct","error":"it went by netif","result":{"mbit_s":9000}}"#,
            r#"{"what":"route","round":2,"path":"direct","error":"no ping"}"#,
        ]
        .join("\n");
        let (table, complete) = table(&text).unwrap();
        assert!(!complete);
        for part in [
            "| direct | - | - | - | - |",
            "not measured.",
            "Missing: tcp of direct in round 1: it went by netif.",
            "Missing: udp of direct in round 1: was not reached.",
            "Missing: rtt of direct in round 2: no ping.",
        ] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
        assert!(super::table("").is_err());
    }
}

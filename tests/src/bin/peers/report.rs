//! What was measured, for people and for programs.

use std::collections::BTreeSet;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;
use serde_json::{Value, json};

use super::bars::{Asks, Bar, OURS, ratios};
use super::contender::{Contender, Load};
use super::rounds::{Plan, Sample, Taken};
use super::statistics::{Interval, interval, median, spread};

/// All of it as text.
pub fn text(plan: &Plan, taken: &Taken, bars: &[Bar]) -> String {
    let mut text = format!("{}\n", machine());
    text.push_str(&format!(
        "{} rounds, {} s each sample; a sender writes its frames' headers or all of them, a \
         receiver sums a word of each 64 bytes\n\n",
        plan.rounds, plan.seconds
    ));
    if !plan.loads.is_empty() {
        text.push_str(&frames(plan, taken));
        text.push('\n');
    }
    text.push_str(&bars_table(bars));
    let lines: Vec<f64> = taken.samples.iter().map(|sample| sample.line_ns).collect();
    if let Some(line) = spread(&lines) {
        text.push_str(&format!(
            "a cache line took {} ns from core to core and back, {} to {}; ratios are of samples \
             that were taken at the same distance\n",
            digits(line.median),
            digits(line.least),
            digits(line.most)
        ));
    }
    for (who, why) in &taken.missing {
        text.push_str(&format!("missing: {who}: {why}\n"));
    }
    for (who, why) in &taken.failed {
        text.push_str(&format!("failed, once at least: {who}: {why}\n"));
    }
    for (why, count) in &taken.dropped {
        text.push_str(&format!("dropped: {count} of {why}\n"));
    }
    if taken.noisy > 0 {
        text.push_str(&format!(
            "{} samples were taken while others kept more than 0.15 cores busy: take these \
             figures for noise\n",
            taken.noisy
        ));
    }
    text
}

/// All of it as one JSON object.
pub fn json(plan: &Plan, taken: &Taken, bars: &[Bar]) -> Value {
    json!({
        "machine": machine(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "taken": taken,
        "bars": bars,
    })
}

/// What the machine is.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {model}, {} GiB, Linux {}", kib >> 20, kernel.trim())
}

fn frames(plan: &Plan, taken: &Taken) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header([
        "frames",
        "who",
        "n",
        "Mpps",
        "least..most",
        "Gbit/s",
        "of copying",
        "ours over it",
        "calls",
        "events",
    ]);
    for load in &plan.loads {
        for contender in &plan.contenders {
            table.add_row(row(taken, *load, *contender));
        }
    }
    let names: BTreeSet<_> = plan.contenders.iter().collect();
    let mut text = format!("{table}\n");
    for contender in names {
        text.push_str(&format!("{contender}: {}\n", contender.what()));
    }
    text.push_str(&format!(
        "ours over it: {OURS} over this one, median of the rounds' ratios and its 95 % bootstrap \
         interval; of copying: over a loop of one thread that copies as many such frames from 256 \
         buffers to 64, measured right before; calls and events: by both sides, for each frame\n"
    ));
    text
}

fn row(taken: &Taken, load: Load, contender: Contender) -> Vec<String> {
    let is = |sample: &&Sample| sample.contender == contender && sample.load == load;
    let samples: Vec<&Sample> = taken.samples.iter().filter(is).collect();
    let of = |of: fn(&Sample) -> f64| samples.iter().map(|sample| of(sample)).collect::<Vec<_>>();
    let mut row = vec![load.to_string(), contender.name().to_owned(), samples.len().to_string()];
    let Some(rate) = spread(&of(|sample| sample.per_second / 1e6)) else {
        let why = if taken.missing.contains_key(contender.name()) { "missing" } else { "-" };
        row.extend([why; 7].map(str::to_owned));
        return row;
    };
    let limit = median(&of(|sample| sample.per_second / sample.copies_per_second));
    row.push(digits(rate.median));
    row.push(format!("{}..{}", digits(rate.least), digits(rate.most)));
    row.push(digits(load.gbit(rate.median * 1e6)));
    row.push(limit.map_or_else(|| "-".to_owned(), digits));
    row.push(match interval(&ratios(taken, OURS, contender, load)) {
        Some(ratio) if contender != OURS => with_interval(ratio),
        _ => "-".to_owned(),
    });
    let calls = [of(|sample| sample.hypercalls), of(|sample| sample.events)];
    row.extend(calls.iter().map(|values| match median(values) {
        Some(count) if contender.is_ours() => digits(count),
        _ => "-".to_owned(),
    }));
    row
}

fn bars_table(bars: &[Bar]) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN);
    table.set_header(["bar", "against", "asked", "ratio", "n", "", "beside"]);
    for bar in bars {
        let asked = match bar.asks {
            Asks::AtLeast(least) => format!("at least {least}"),
            Asks::AtMost(most) => format!("at most {most}"),
            Asks::Nothing => "reported".to_owned(),
        };
        let met = match bar.met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None if bar.ratio.is_none() => "missing",
            None => "",
        };
        let beside: Vec<_> =
            bar.beside.iter().map(|(name, value)| format!("{name} {}", digits(*value))).collect();
        table.add_row([
            bar.what.clone(),
            bar.against.clone(),
            asked,
            bar.ratio.map_or_else(|| "-".to_owned(), with_interval),
            bar.rounds.to_string(),
            met.to_owned(),
            beside.join("; "),
        ]);
    }
    format!("{table}\n")
}

fn with_interval(ratio: Interval) -> String {
    format!("{} [{}..{}]", digits(ratio.median), digits(ratio.low), digits(ratio.high))
}

/// Three digits that matter.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.01 => format!("{value:.4}"),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

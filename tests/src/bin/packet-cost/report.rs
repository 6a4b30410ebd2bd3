//! What is printed.

use serde::Serialize;

use super::lines::Lines;
use super::scene::{Done, Load};
use super::stages::{Counted, Side};

/// What one frame costs at a load.
#[derive(Serialize)]
pub struct Report {
    /// Frames of which length, in which bursts.
    pub load: Load,
    /// Instructions, both sides together.
    pub instructions: f64,
    /// Instructions of the C library, which copies bytes, and is another on other processors.
    pub library_instructions: f64,
    /// By step.
    steps: Vec<StepCost>,
    /// Frames in an envelope.
    frames_per_envelope: f64,
    /// Calls into the hypervisor.
    hypercalls: f64,
    /// Events sent.
    events: f64,
    /// Lines that both sides touch.
    shared_lines: SharedLines,
    #[serde(skip)]
    functions: Vec<(String, f64)>,
}

/// One step of a frame's way.
#[derive(Serialize)]
struct StepCost {
    side: Side,
    step: &'static str,
    instructions: f64,
}

/// Cache lines that both sides touch, by what is in them.
#[derive(Serialize)]
struct SharedLines {
    slots: f64,
    indices: f64,
    grant_entries: f64,
    payload: f64,
    all: f64,
}

impl Report {
    /// Of what was counted.
    pub fn new(load: Load, done: Done, counted: Counted) -> Report {
        let frames = done.frames as f64;
        let mut steps: Vec<StepCost> = counted
            .ours
            .iter()
            .map(|((side, step), cost)| StepCost {
                side: *side,
                step,
                instructions: *cost as f64 / frames,
            })
            .collect();
        steps.sort_by(|a, b| a.side.cmp(&b.side).then(b.instructions.total_cmp(&a.instructions)));
        let lines = Lines::of(load, &done);
        let functions = counted.functions.into_iter();
        Report {
            load,
            instructions: counted.ours.values().sum::<u64>() as f64 / frames,
            library_instructions: counted.library as f64 / frames,
            steps,
            frames_per_envelope: frames / done.envelopes as f64,
            hypercalls: done.hypercalls as f64 / frames,
            events: done.events as f64 / frames,
            shared_lines: SharedLines {
                slots: lines.slots,
                indices: lines.indices,
                grant_entries: lines.grants,
                payload: lines.payload,
                all: lines.all(),
            },
            functions: functions.map(|(name, cost)| (name, cost as f64 / frames)).collect(),
        }
    }

    /// For people.
    pub fn print(&self, functions: usize) {
        let Load { length, burst } = self.load;
        println!("\n{length} bytes, burst {burst}: {:.0} instructions a frame", self.instructions);
        for side in [Side::Sender, Side::Receiver] {
            let of_side = self.steps.iter().filter(|cost| cost.side == side);
            let sum: f64 = of_side.clone().map(|cost| cost.instructions).sum();
            println!("  {sum:>7.1}  {side:?}");
            for cost in of_side.filter(|cost| cost.instructions >= 0.05) {
                println!("  {:>9.1}  {}", cost.instructions, cost.step);
            }
        }
        let lines = &self.shared_lines;
        println!("  {:>7.1}  the C library, copying", self.library_instructions);
        println!("  {:>7.3}  hypercalls, {:.3} events", self.hypercalls, self.events);
        println!("  {:>7.2}  frames in an envelope", self.frames_per_envelope);
        println!(
            "  {:>7.2}  shared cache lines: slots {:.2}, indices {:.2}, grant entries {:.2}, \
             payload {:.2}",
            lines.all, lines.slots, lines.indices, lines.grant_entries, lines.payload
        );
        for (name, cost) in self.functions.iter().take(functions) {
            println!("  {cost:>9.1}  {name}");
        }
    }
}

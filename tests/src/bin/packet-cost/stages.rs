//! Which step of a packet's way an instruction belongs to.
//!
//! Functions are inlined into each other, so callgrind's own sums by function say little. The
//! debug information knows which functions an instruction was inlined from: the innermost one that
//! is listed here is the step. What a function does that is in no step of its own (a copy of
//! bytes, say) belongs to the step that it is called from.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use super::callgrind::{Function, Profile};

/// Whose processor it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The sender's.
    Sender,
    /// The receiver's.
    Receiver,
}

/// A step, by name. See [`STEPS`].
pub type Step = &'static str;

/// What the guests' stacks do with the frames: no cost of ours.
pub const STACK: Step = "the stack";
/// What is in no step.
pub const REST: Step = "the rest of the driver";

/// Where the scene is.
const SCENE: &str = "packet-cost/scene.rs";
/// Where a function is and how its name begins, and the step that it is. The first that fits
/// counts.
const STEPS: &[(&str, &str, Step)] = &[
    (SCENE, "", STACK),
    ("frontend/src/route.rs", "", "route"),
    ("switch/src/table", "", "table look-up"),
    ("machine/granter.rs", "take", "buffers"),
    ("machine/granter.rs", "grant", "grant"),
    ("machine/granter.rs", "segments", "grant"),
    ("machine/granter.rs", "", "revoke"),
    ("machine/guest.rs", "give_back", "buffers"),
    ("machine/buffer.rs", "drop", "buffers"),
    ("frontend/src/warm.rs", "", "buffers"),
    ("machine/copier.rs", "", "copy"),
    ("receive/envelopes.rs", "take_done", "done"),
    ("transmit/dones.rs", "", "done"),
    ("switch/src/window.rs", "", "window"),
    ("switch/src/channel.rs", "push", "slot write"),
    ("switch/src/channel.rs", "pop", "slot read"),
    ("switch/src/channel.rs", "", "ring indices, notify"),
    ("transmit/paths.rs", "publish", "ring indices, notify"),
    ("switch/src/envelope/builder.rs", "", "envelope, written"),
    ("switch/src/envelope/", "", "envelope, validated"),
    ("transmit/order.rs", "", "order"),
    ("frontend/src/peers.rs", "", "peers"),
];

/// What is known of an instruction from where it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Label {
    side: Option<Side>,
    step: Option<Step>,
    /// It is one of the frontend's.
    driver: bool,
}

/// Instructions by side and step.
pub type Costs = BTreeMap<(Side, Step), u64>;

/// What was counted.
pub struct Counted {
    /// Our own instructions by the function that they stand in, whatever it was inlined into: file
    /// and name. The costliest first.
    pub functions: Vec<(String, u64)>,
    /// Our own instructions, those of [`STACK`] left out.
    pub ours: Costs,
    /// Instructions of the C library that ran for them: it copies bytes, by what the processor has.
    pub library: u64,
}

/// How often labels are handed down from callers to callees: deeper than any call.
const DEPTH: usize = 64;

/// Sorts what callgrind has counted in `program` by steps.
pub fn sort(profile: &Profile, program: &Path) -> Result<Counted> {
    let names = Names::of(program)?;
    let own_object = program.to_string_lossy();
    let mut labels: HashMap<u64, Label> = HashMap::new();
    for function in profile.functions.iter().filter(|function| function.object == *own_object) {
        let calls = function.calls.iter().map(|call| call.0);
        for address in function.own.iter().map(|cost| cost.0).chain(calls) {
            labels.entry(address).or_insert_with(|| names.label(address));
        }
    }
    let label_at = |function: &Function, address: u64| {
        let ours = function.object == own_object;
        if ours { labels.get(&address).copied().unwrap_or_default() } else { Label::default() }
    };
    // In which steps each function runs, by the instructions that it runs in them.
    let mut contexts: Vec<HashMap<Label, f64>> = vec![HashMap::new(); profile.functions.len()];
    for _ in 0..DEPTH {
        let mut next: Vec<HashMap<Label, f64>> = vec![HashMap::new(); profile.functions.len()];
        for (function, context) in profile.functions.iter().zip(&contexts) {
            for (address, callee, cost) in &function.calls {
                for (label, share) in under(context, label_at(function, *address)) {
                    *next[*callee].entry(label).or_default() += share * *cost as f64;
                }
            }
        }
        for context in &mut next {
            let all: f64 = context.values().sum();
            context.values_mut().for_each(|share| *share /= all.max(1.0));
        }
        contexts = next;
    }
    let mut functions: BTreeMap<String, u64> = BTreeMap::new();
    let (mut ours, mut library) = (BTreeMap::new(), 0.0);
    for (function, context) in profile.functions.iter().zip(&contexts) {
        for (address, cost) in &function.own {
            if function.object == own_object {
                *functions.entry(names.innermost(*address)).or_default() += cost;
            }
            for (label, share) in under(context, label_at(function, *address)) {
                let (side, step) = (label.side.unwrap_or(Side::Sender), label.step.unwrap_or(REST));
                let cost = share * *cost as f64;
                if step == STACK {
                    continue;
                }
                if function.object == own_object {
                    *ours.entry((side, step)).or_insert(0.0) += cost;
                } else {
                    library += cost;
                }
            }
        }
    }
    let mut functions: Vec<_> = functions.into_iter().collect();
    functions.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
    let ours = ours.into_iter().map(|(key, cost): (_, f64)| (key, cost.round() as u64)).collect();
    Ok(Counted { functions, ours, library: library.round() as u64 })
}

/// The labels of something with a label of its own, in a function that is called in a context.
fn under(context: &HashMap<Label, f64>, own: Label) -> Vec<(Label, f64)> {
    let with = |around: Label| {
        // What the scene calls of the driver is not the scene's.
        let step = own.step.or(around.step.filter(|step| !(own.driver && *step == STACK)));
        Label { side: own.side.or(around.side), step, driver: own.driver }
    };
    if context.is_empty() {
        return vec![(own, 1.0)];
    }
    context.iter().map(|(around, share)| (with(*around), *share)).collect()
}

/// The functions that an instruction is of, by address.
struct Names(addr2line::Loader);

impl Names {
    fn of(program: &Path) -> Result<Names> {
        let loader = addr2line::Loader::new(program);
        let loader = loader
            .map_err(|cause| anyhow!("no debug information in {}: {cause}", program.display()))?;
        Ok(Names(loader))
    }

    /// Our function that an instruction is of, and that of ours or of Rust's library that it was
    /// inlined from.
    fn innermost(&self, address: u64) -> String {
        let Ok(mut frames) = self.0.find_frames(address) else { return "?".to_owned() };
        let mut path = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|name| name.demangle().ok());
            let file = frame.location.as_ref().and_then(|location| location.file);
            let (Some(name), Some(file)) = (name, file) else { continue };
            let name = name.split('<').next().unwrap_or_default();
            let mut parts: Vec<&str> = file.rsplit('/').take(3).collect();
            parts.reverse();
            let ours = !file.contains("/rustc/") && !file.contains("/registry/");
            if path.is_empty() || ours {
                path.push(format!("{}:{name}", parts.join("/")));
            }
            if ours {
                break;
            }
        }
        path.reverse();
        path.join(" < ")
    }

    fn label(&self, address: u64) -> Label {
        let mut label = Label::default();
        let Ok(mut frames) = self.0.find_frames(address) else { return label };
        // Innermost first.
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref().and_then(|name| name.demangle().ok());
            let file = frame.location.as_ref().and_then(|location| location.file);
            let (Some(name), Some(file)) = (name, file) else { continue };
            if file.ends_with(SCENE) {
                label.side = label.side.or_else(|| side(&name));
            }
            let step = STEPS
                .iter()
                .find(|(part, begin, _)| file.contains(part) && name.starts_with(begin));
            label.driver |= file.contains("frontend/src/");
            let step = step.map(|step| step.2);
            label.step = label.step.or(step.filter(|step| !(label.driver && *step == STACK)));
        }
        label
    }
}

/// Whose turn a function of the scene's is.
fn side(name: &str) -> Option<Side> {
    if name.starts_with("sender_turn") {
        Some(Side::Sender)
    } else if name.starts_with("receiver_turn") {
        Some(Side::Receiver)
    } else {
        None
    }
}

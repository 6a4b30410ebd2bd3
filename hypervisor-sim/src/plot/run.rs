//! Where and when a figure was measured.

use std::time::SystemTime;

use serde::Serialize;

use super::Plan;
use crate::cli::PlotArguments;

/// The machine that measured.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Machine {
    /// Its processor, as it names itself.
    pub model: String,
    /// How many processors the program may use.
    pub cores: usize,
}

/// What stands below every figure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Run {
    /// The command.
    pub command: String,
    /// The machine.
    pub machine: Machine,
    /// When: RFC 3339, in UTC.
    pub date: String,
    /// The program's version.
    pub version: &'static str,
    /// Rounds of each timing.
    pub rounds: usize,
    /// Whether points and rounds were cut down.
    pub quick: bool,
    /// Whether the program was built without optimisation: then its speeds mean nothing.
    pub debug: bool,
}

impl Machine {
    /// This one.
    pub fn this() -> Machine {
        let model = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        Machine {
            model: model.unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH)),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl Run {
    /// This run.
    pub fn new(command: String, plan: &Plan) -> Run {
        Run {
            command,
            machine: Machine::this(),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            version: env!("CARGO_PKG_VERSION"),
            rounds: plan.rounds,
            quick: plan.quick,
            debug: cfg!(debug_assertions),
        }
    }

    /// It in two lines, each short enough to stand below a figure.
    pub fn footnote(&self) -> [String; 2] {
        let Machine { model, cores } = &self.machine;
        let cores = if *cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
        let warning = if self.debug { "; DEBUG BUILD, speeds mean nothing" } else { "" };
        [
            format!("version {}, {}{warning}; {}", self.version, self.date, self.command),
            format!("simulated host on {cores} of {model}; median of rounds, bars: least to most"),
        ]
    }
}

/// The command line that asks for the same.
pub fn command_line(arguments: &PlotArguments) -> String {
    let mut line = format!("xenvelope-sim plot --out {}", arguments.out.display());
    if arguments.quick {
        line.push_str(" --quick");
    }
    if arguments.rounds != 3 {
        line.push_str(&format!(" --rounds {}", arguments.rounds));
    }
    line
}

//! `xenvelope-sim plot`.

use xenvelope_hypervisor_sim::cli::PlotArguments;
use xenvelope_hypervisor_sim::plot;

use crate::{Failure, bar, say};

/// Measures and draws. Whether all arrived as it was sent.
pub fn run(arguments: &PlotArguments) -> Result<bool, Failure> {
    let out =
        plot::Output::create(&arguments.out).map_err(|cause| Failure::Input(cause.to_string()))?;
    let progress = bar(false);
    let plan = plot::Plan::new(arguments.quick, arguments.rounds);
    let measured = plan.measure(|done, of, what| {
        progress.set_length(of as u64);
        progress.set_position(done as u64);
        progress.set_message(what.to_owned());
    })?;
    let run = plot::Run::new(plot::command_line(arguments), &plan);
    let figures = plot::figures(&measured);
    out.write(&run, &figures)?;
    progress.finish_and_clear();
    for figure in &figures {
        say(&format!("{}: {}", figure.id, figure.finding))?;
    }
    say(&format!("written to {}", out.page().display()))?;
    Ok(measured.all_right())
}

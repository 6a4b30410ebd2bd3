//! `xenvelope-sim` without more: the table of routes.

use indicatif::ProgressBar;
use xenvelope_grant::seam::Mechanism;
use xenvelope_hypervisor_sim::capture::{Capture, CaptureError};
use xenvelope_hypervisor_sim::cli::Arguments;
use xenvelope_hypervisor_sim::host::Host;
use xenvelope_hypervisor_sim::measure::{Bench, FlipResult, FrameSize, flip, plan};
use xenvelope_hypervisor_sim::report::{Report, flip_text, json, text};

use crate::{Failure, bar, payload, say, serve_store};

/// Builds a host and measures every route. Whether all arrived as it was sent.
pub fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let (file, payload) = payload(arguments.file.as_deref())?;
    let asked = &arguments.host;
    asked.check().map_err(|cause| Failure::Input(cause.to_string()))?;
    arguments.check_routes().map_err(|cause| Failure::Input(cause.to_string()))?;
    let spec = arguments.spec();
    spec.check().map_err(|cause| Failure::Input(cause.to_string()))?;
    let capture = asked.capture.begin().map_err(|cause| match cause {
        CaptureError::Create { .. } => Failure::Input(cause.to_string()),
        other => Failure::Run(other.into()),
    })?;
    let progress = bar(arguments.json);
    progress.set_message("starting the host");
    let host = Host::start_recorded(&spec, capture.as_ref().map(Capture::recorder))?;
    let _store = serve_store(&host, asked.store.socket.as_deref())?;
    host.wait_connected()?;

    let routes_named = !arguments.route.is_empty();
    let mut cells = Vec::new();
    for route in arguments.routes() {
        match plan(&host, route) {
            Ok(planned) => cells.extend(planned),
            Err(lacks) if routes_named => return Err(Failure::Input(lacks)),
            Err(lacks) => progress.suspend(|| eprintln!("left out: {lacks}")),
        }
    }
    let frames = arguments.frames();
    let limits = arguments.limits();
    let mut bench = Bench::new(&host, payload.clone());
    let largest = frames.iter().max_by_key(|frame| frame.bytes()).copied();
    let flip = match largest {
        // The flip begins with routes that not every mechanism has.
        Some(frame) if !routes_named && asked.mechanism == Mechanism::Destination => {
            run_flip(&mut bench, frame, arguments, &progress)?
        }
        _ => None,
    };
    progress.set_length((cells.len() * frames.len()) as u64);
    let mut results = Vec::new();
    for cell in &cells {
        for frame in &frames {
            progress.set_message(format!(
                "{} {} → {}, {} bytes",
                cell.route.name(),
                cell.from,
                cell.to,
                frame.bytes()
            ));
            results.push(bench.run(cell, *frame, limits)?);
            progress.inc(1);
        }
    }
    let ledger = host.settle()??;
    progress.finish_and_clear();
    if let Some(capture) = capture {
        eprintln!("{}", capture.finish()?);
    }
    let report = Report {
        costs: spec.costs,
        bus_gbit: arguments.bus_gbit,
        card: host.card(),
        mechanism: asked.mechanism,
        guests: host.guests.len(),
        payload: (file.display().to_string(), payload.bytes().len()),
        flip,
        cells: results,
        ledger,
    };
    if arguments.json {
        say(&json(&report)?)?;
    } else {
        say(&text(&report))?;
    }
    Ok(report.all_right())
}

fn run_flip(
    bench: &mut Bench<'_>,
    frame: FrameSize,
    arguments: &Arguments,
    progress: &ProgressBar,
) -> Result<Option<FlipResult>, Failure> {
    let result = flip(bench, frame, arguments.seconds, |phase, gbit, bus| {
        progress.set_message(format!("{phase}: {gbit:.1} Gbit/s, I/O bus {:.1} %", bus * 100.0));
    })?;
    if let Some(flip) = &result
        && !arguments.json
    {
        progress.suspend(|| say(&flip_text(flip, frame)))?;
    }
    Ok(result)
}

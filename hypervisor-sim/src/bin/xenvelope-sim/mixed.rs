//! `xenvelope-sim mixed`.

use xenvelope_hypervisor_sim::cli::MixedArguments;
use xenvelope_hypervisor_sim::host::Host;
use xenvelope_hypervisor_sim::measure::{Bench, mixed};
use xenvelope_hypervisor_sim::report::{mixed_json, mixed_text};

use crate::{Failure, payload, say};

/// Transfers over several routes at once. Whether all arrived as they were sent.
pub fn run(arguments: &MixedArguments) -> Result<bool, Failure> {
    let (_, payload) = payload(arguments.file.as_deref())?;
    let plan = arguments.plan().map_err(|cause| Failure::Input(cause.to_string()))?;
    let spec = plan.host(arguments.costs(), arguments.bus_gbit);
    spec.check().map_err(|cause| Failure::Input(cause.to_string()))?;
    let host = Host::start(&spec)?;
    host.wait_connected()?;
    let result = mixed(&mut Bench::new(&host, payload), &plan, arguments.frame, arguments.seconds)?;
    if arguments.json {
        say(&serde_json::to_string_pretty(&mixed_json(&result))?)?;
    } else {
        say(&mixed_text(&result))?;
    }
    Ok(result.all_right())
}

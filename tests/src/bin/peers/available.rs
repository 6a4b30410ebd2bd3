//! What of the peers is there, and what to install for the others.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::contender::Contender;
use super::dpdk::HUGE_PAGES;
use super::lines::Line;
use super::programs::{Program, is_installed};
use super::restore::Changes;

/// By their names, why some of those that were asked for cannot be measured here. Builds what can
/// be built, and has the system set aside what they need.
pub fn missing(
    asked: &[Contender],
    lines: &[&Line],
    changes: &Changes,
) -> BTreeMap<String, String> {
    let of_dpdk = |contender: &Contender| {
        use Contender::*;
        matches!(contender, VhostSplit | VhostPacked | MemifToServer | MemifToClient)
    };
    let of_kernel = |contender: &Contender| contender.is_peer() && !of_dpdk(contender);
    let mut missing = BTreeMap::new();
    if asked.iter().any(of_dpdk)
        && let Err(cause) = dpdk(changes)
    {
        let these = asked.iter().copied().filter(of_dpdk);
        missing.extend(these.map(|contender| (contender.name().to_owned(), format!("{cause:#}"))));
    }
    if asked.iter().any(of_kernel)
        && let Err(cause) = kernel()
    {
        let these = asked.iter().copied().filter(of_kernel);
        missing.extend(these.map(|contender| (contender.name().to_owned(), format!("{cause:#}"))));
    }
    for line in lines {
        if let Err(cause) = (line.needs)() {
            missing.insert(line.name.to_owned(), format!("{cause:#}"));
        }
    }
    missing
}

fn dpdk(changes: &Changes) -> Result<()> {
    Program::Dpdk.build()?;
    changes.need_huge_pages(HUGE_PAGES)
}

/// What the kernel's paths need.
pub fn kernel() -> Result<()> {
    ensure!(is_installed("ip") && is_installed("bridge"), "install iproute2");
    ensure!(nix::unistd::geteuid().is_root(), "run it as root, for network namespaces");
    Program::Kernel.build()
}

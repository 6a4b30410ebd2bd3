//! The C programs of the peers, which are built here: this program installs nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const FRAME_H: &str = include_str!("programs/frame.h");
const DPDK_C: &str = include_str!("programs/dpdk.c");
const KERNEL_C: &str = include_str!("programs/kernel.c");
const RELAY_C: &str = include_str!("programs/relay.c");

/// A program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// One side of a DPDK port.
    Dpdk,
    /// One side of a path of the kernel's.
    Kernel,
    /// A guest between two TAPs.
    Relay,
}

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Program::Dpdk => "dpdk",
            Program::Kernel => "kernel",
            Program::Relay => "relay",
        }
    }

    /// Where it is once it is built: beside this program.
    pub fn path(self) -> Result<PathBuf> {
        Ok(directory()?.join(self.name()))
    }

    /// Builds it; otherwise says what is missing.
    pub fn build(self) -> Result<()> {
        let directory = directory()?;
        std::fs::create_dir_all(&directory)?;
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text);
        write("frame.h", FRAME_H)?;
        let source = directory.join(self.name()).with_extension("c");
        let (text, flags) = match self {
            Program::Dpdk => (DPDK_C, pkg_config("libdpdk")?),
            Program::Kernel => (KERNEL_C, Vec::new()),
            Program::Relay => (RELAY_C, Vec::new()),
        };
        std::fs::write(&source, text)?;
        let mut cc = Command::new("cc");
        cc.args(["-O3", "-march=native"]).arg(&source).arg("-o").arg(self.path()?).args(flags);
        let output = cc.output().context("no C compiler: install gcc")?;
        if !output.status.success() {
            bail!(
                "{} does not build: {}",
                source.display(),
                String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default()
            );
        }
        Ok(())
    }
}

fn directory() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(exe.parent().unwrap_or(Path::new(".")).join("peers-programs"))
}

fn pkg_config(library: &str) -> Result<Vec<String>> {
    let output = Command::new("pkg-config").args(["--cflags", "--libs", library]).output();
    let output = output.context("install pkg-config, dpdk and libdpdk-dev")?;
    if !output.status.success() {
        bail!("install dpdk and libdpdk-dev");
    }
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect())
}

/// Whether a program is there to be run.
pub fn is_installed(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&paths).chain(sbin).any(|directory| directory.join(name).exists())
}

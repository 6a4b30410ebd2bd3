//! What is changed on the machine, and put back on every way out.
//!
//! Interfaces are in namespaces without a name and end with their processes; processes end with
//! the one that started them. What is left is the number of huge pages, whether shared memory may
//! be of them, and a directory for sockets. These are put back by a process that does nothing but wait for the end of this one,
//! which it sees whatever ends it.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Whether shared memory may be in huge pages: all that can be said, what is said in brackets.
const SHARED: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// What is to be put back.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Before {
    huge_pages: u64,
    shared: Option<String>,
    directory: PathBuf,
}

/// While this is there, there are huge pages and a directory for sockets.
pub struct Changes {
    keeper: Child,
    directory: PathBuf,
}

impl Changes {
    /// Makes the directory. Nothing else is changed yet.
    pub fn begin() -> Result<Changes> {
        let directory =
            std::env::temp_dir().join(format!("xenvelope-peers-{}", std::process::id()));
        std::fs::create_dir(&directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
        let (huge_pages, shared) = (huge_pages().unwrap_or(0), shared());
        let before = Before { huge_pages, shared, directory: directory.clone() };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--restore").arg(serde_json::to_string(&before)?);
        // Not of our group: what a terminal sends to us is not for it.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        let keeper = command.spawn().context("the process that puts things back does not start")?;
        Ok(Changes { keeper, directory })
    }

    /// Where sockets go.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has the system give huge pages to shared memory whose owner asks for them, as DPDK has them
    /// for its own. Without, two processes of ours, and the model, have small ones.
    pub fn let_shared_memory_be_huge(&self) {
        if shared().is_some_and(|now| now == "never") {
            // Who may not do that measures with small ones.
            let _ = std::fs::write(SHARED, "advise");
        }
    }

    /// Has the system set huge pages aside, so that `wanted` are free.
    pub fn need_huge_pages(&self, wanted: u64) -> Result<()> {
        let free = read_number(&HUGE_PAGES.replace("nr_", "free_"))?;
        if free >= wanted {
            return Ok(());
        }
        let now = huge_pages()?;
        std::fs::write(HUGE_PAGES, (now + wanted - free).to_string())
            .context("huge pages cannot be had; run it as root")?;
        let free = read_number(&HUGE_PAGES.replace("nr_", "free_"))?;
        if free < wanted {
            bail!("the system has only {free} of {wanted} huge pages of 2 MiB to spare");
        }
        Ok(())
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn shared() -> Option<String> {
    let text = std::fs::read_to_string(SHARED).ok()?;
    let (_, after) = text.split_once('[')?;
    Some(after.split_once(']')?.0.to_owned())
}

fn huge_pages() -> Result<u64> {
    read_number(HUGE_PAGES)
}

fn read_number(file: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{file} cannot be read"))?;
    Ok(text.trim().parse()?)
}

/// What the keeper does.
pub fn keep(before: &str) -> Result<()> {
    let before: Before = serde_json::from_str(before)?;
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing)?;
    let _ = std::fs::remove_dir_all(&before.directory);
    if before.shared != shared()
        && let Some(shared) = &before.shared
    {
        std::fs::write(SHARED, shared)?;
    }
    if huge_pages().is_ok_and(|now| now != before.huge_pages) {
        std::fs::write(HUGE_PAGES, before.huge_pages.to_string())?;
    }
    Ok(())
}

//! A copy of the workspace that may be spoiled.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::list::{Edit, Mutation};

/// The copy.
pub struct Scratch {
    root: PathBuf,
}

impl Scratch {
    /// Brings the copy in `to` up to the workspace in `from`. A file that is the same already is
    /// left alone, so that nothing is built again for it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn copy(from: &Path, to: &Path) -> Result<Scratch> {
        let files = files_of(from)?;
        for file in &files {
            let bytes = fs::read(from.join(file)).with_context(|| file.display().to_string())?;
            let target = to.join(file);
            if fs::read(&target).is_ok_and(|there| there == bytes) {
                continue;
            }
            fs::create_dir_all(target.parent().expect("a file is in a folder"))?;
            fs::write(&target, bytes).with_context(|| target.display().to_string())?;
        }
        for stale in walk(to)?.difference(&files) {
            fs::remove_file(to.join(stale))?;
        }
        Ok(Scratch { root: to.to_owned() })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Checks that every edit has its one place.
    ///
    /// # Errors
    /// It has none, or several, or there is no such file.
    pub fn check(&self, mutation: &Mutation) -> Result<()> {
        self.mutated(mutation).map(drop)
    }

    /// Builds the mutation in.
    ///
    /// # Errors
    /// As [`Scratch::check`].
    pub fn apply(&self, mutation: &Mutation) -> Result<Applied> {
        let mut applied = Applied { originals: Vec::new() };
        for (path, original, mutated) in self.mutated(mutation)? {
            fs::write(&path, mutated)?;
            applied.originals.push((path, original));
        }
        Ok(applied)
    }

    /// The path, the text and the mutated text of each file that is changed.
    fn mutated(&self, mutation: &Mutation) -> Result<Vec<(PathBuf, String, String)>> {
        let mut files: Vec<(PathBuf, String, String)> = Vec::new();
        for Edit { file, find, replace } in &mutation.edits {
            let name = || format!("{}: {}", mutation.name, file.display());
            let path = self.root.join(file);
            if !files.iter().any(|(there, ..)| *there == path) {
                let text = fs::read_to_string(&path).with_context(name)?;
                files.push((path.clone(), text.clone(), text));
            }
            for (_, _, text) in files.iter_mut().filter(|(there, ..)| *there == path) {
                let places = text.matches(find.as_str()).count();
                ensure!(places == 1, "{}: {places} places instead of one for:\n{find}", name());
                *text = text.replacen(find.as_str(), replace, 1);
            }
        }
        Ok(files)
    }
}

/// A mutation that is in. It is taken out when this is dropped.
pub struct Applied {
    originals: Vec<(PathBuf, String)>,
}

impl Drop for Applied {
    fn drop(&mut self) {
        for (path, text) in &self.originals {
            if let Err(error) = fs::write(path, text) {
                eprintln!("error: {} is left mutated: {error}", path.display());
            }
        }
    }
}

/// What is tracked or new: what git says, and where there is no git all there is. Without the
/// programs of this package: Cargo would link them anew for each mutation.
fn files_of(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let git = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
        .current_dir(root)
        .output();
    let mut files = match git {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
            names.split_terminator('\0').map(PathBuf::from).collect()
        }
        _ => walk(root)?,
    };
    files.retain(|file| !file.starts_with("tests/src/bin") && root.join(file).is_file());
    Ok(files)
}

/// All files below, without build products and git's own.
fn walk(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            if entry.file_type()?.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else {
                files.insert(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    Ok(files)
}

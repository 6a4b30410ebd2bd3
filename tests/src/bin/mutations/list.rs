//! The list of mutations: `tests/mutations/*.toml`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

/// The integration test binary that most of the tests are in.
const HOSTILE: &str = "hostile";

/// A defence taken out.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// Its name, unique over all files.
    pub name: String,
    /// What a peer can do without it.
    pub why: String,
    /// What is changed.
    pub edits: Vec<Edit>,
    /// The integration test binary.
    pub test: String,
    /// The tests in it that must fail, with their modules.
    pub caught_by: Vec<String>,
}

/// One piece of text in the place of another.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The file, from the root of the workspace.
    pub file: PathBuf,
    /// What is in it exactly once.
    pub find: String,
    /// What stands there instead.
    pub replace: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    mutation: Vec<Written>,
}

/// A mutation as it is written: one edit may be given without a table of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    why: String,
    file: Option<PathBuf>,
    find: Option<String>,
    replace: Option<String>,
    #[serde(default)]
    edit: Vec<Edit>,
    caught_by: Vec<String>,
    test: Option<String>,
}

/// Reads the files; all of `folder` if none are named.
///
/// # Errors
/// A file that cannot be read, is no list of mutations, or says something that makes no sense;
/// two mutations of one name.
pub fn read(folder: &Path, files: &[PathBuf]) -> Result<Vec<Mutation>> {
    let files = if files.is_empty() { toml_files(folder)? } else { files.to_vec() };
    ensure!(!files.is_empty(), "no *.toml in {}", folder.display());
    let mut mutations = Vec::new();
    let mut names = BTreeSet::new();
    for file in &files {
        let place = || file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(place)?;
        let parsed: File = toml::from_str(&text).with_context(place)?;
        ensure!(!parsed.mutation.is_empty(), "{}: no [[mutation]] in it", place());
        for written in parsed.mutation {
            let name = written.name.clone();
            let mutation = written.checked().with_context(|| format!("{}: {name}", place()))?;
            ensure!(names.insert(name.clone()), "{}: {name} is there twice", place());
            mutations.push(mutation);
        }
    }
    Ok(mutations)
}

fn toml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Written {
    fn checked(self) -> Result<Mutation> {
        let mut edits = self.edit;
        match (self.file, self.find, self.replace) {
            (Some(file), Some(find), Some(replace)) => edits.push(Edit { file, find, replace }),
            (None, None, None) => {}
            _ => bail!("file, find and replace belong together"),
        }
        ensure!(!edits.is_empty(), "neither file, find and replace, nor a [[mutation.edit]]");
        for edit in &edits {
            ensure!(!edit.find.is_empty(), "an empty find in {}", edit.file.display());
            ensure!(edit.find != edit.replace, "find and replace are the same");
            let inside =
                edit.file.components().all(|c| matches!(c, std::path::Component::Normal(_)));
            ensure!(inside, "{} is not a path from the workspace's root", edit.file.display());
        }
        ensure!(!self.name.trim().is_empty(), "an empty name");
        ensure!(!self.why.trim().is_empty(), "no reason in why");
        ensure!(!self.caught_by.is_empty(), "no test in caught_by");
        Ok(Mutation {
            name: self.name,
            why: self.why,
            edits,
            test: self.test.unwrap_or_else(|| HOSTILE.to_owned()),
            caught_by: self.caught_by,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who moves code moves what the mutations look for in it.
    #[test]
    fn every_mutation_finds_its_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mutations = read(&root.join("tests/mutations"), &[]).expect("the lists");
        assert!(mutations.len() > 100, "only {}", mutations.len());
        for Mutation { name, edits, .. } in &mutations {
            for Edit { file, find, .. } in edits {
                let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
                let places = text.matches(find.as_str()).count();
                assert_eq!(places, 1, "{name}, in {}:\n{find}", file.display());
            }
        }
    }
}

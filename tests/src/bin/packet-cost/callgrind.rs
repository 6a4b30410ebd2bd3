//! Running the scene under callgrind, and reading what it has counted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::scene::{Done, Load};

/// What to do where there is no valgrind.
const MISSING: &str = "valgrind is not installed: on Debian, `apt-get install valgrind`";

/// Instructions of one function, by address.
#[derive(Default)]
pub struct Function {
    /// The program or library that it is of.
    pub object: String,
    /// Address, and instructions there.
    pub own: Vec<(u64, u64)>,
    /// Address of a call, who is called (an index), and instructions until it returned, all calls
    /// together.
    pub calls: Vec<(u64, usize, u64)>,
}

/// What callgrind has counted in the rounds that are measured.
#[derive(Default)]
pub struct Profile {
    /// All functions that ran. Addresses are those of their object's file.
    pub functions: Vec<Function>,
}

/// Where callgrind leaves what it has counted. It is removed when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty directory of our own.
    pub fn make() -> Result<Scratch> {
        let path = std::env::temp_dir().join(format!("packet-cost-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the scene of that load.
pub fn run(program: &Path, load: Load, scratch: &Scratch) -> Result<(Done, Profile)> {
    let out = scratch.0.join(format!("{}-{}", load.length, load.burst));
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--collect-atstart=no", "--dump-instr=yes"])
        // A function that is called in several steps is counted apart in each.
        .args(["--separate-callers=32"])
        .args(["--toggle-collect=*scene*measured_rounds*"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["--scene", &super::costs::name(load)])
        .output()
        .map_err(|cause| anyhow::anyhow!("{MISSING} ({cause})"))?;
    ensure!(
        output.status.success(),
        "the run under callgrind failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let done =
        serde_json::from_slice(&output.stdout).context("the scene did not say what it did")?;
    let text = std::fs::read_to_string(&out)
        .with_context(|| format!("callgrind left nothing at {}", out.display()))?;
    Ok((done, parse(&text)?))
}

/// Reads the format of <https://valgrind.org/docs/manual/cl-format.html>, without compression and
/// with positions of instructions.
fn parse(text: &str) -> Result<Profile> {
    let mut profile = Profile::default();
    let mut known: HashMap<(String, String), usize> = HashMap::new();
    let mut index = |object: &str, name: &str, functions: &mut Vec<Function>| {
        *known.entry((object.to_owned(), name.to_owned())).or_insert_with(|| {
            functions.push(Function { object: object.to_owned(), ..Function::default() });
            functions.len() - 1
        })
    };
    let (mut object, mut called_object, mut current, mut called) =
        (String::new(), None, None, None);
    for line in text.lines() {
        if line.starts_with("0x") {
            let (address, cost) =
                position(line).with_context(|| format!("callgrind's {line:?}"))?;
            let function: &mut Function =
                profile.functions.get_mut(current.context("costs of nobody")?).context("nobody")?;
            match called.take() {
                Some(callee) => function.calls.push((address, callee, cost)),
                None => function.own.push((address, cost)),
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        match key {
            "ob" => object = value.to_owned(),
            "fn" => current = Some(index(&object, value, &mut profile.functions)),
            "cob" => called_object = Some(value.to_owned()),
            "cfn" => {
                let of = called_object.take().unwrap_or_else(|| object.clone());
                called = Some(index(&of, value, &mut profile.functions));
            }
            _ => {}
        }
    }
    if profile.functions.is_empty() {
        bail!("callgrind counted nothing: was the program built without debug information?");
    }
    Ok(profile)
}

/// Address, line, cost.
fn position(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let address = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
    // There is none if nothing was executed.
    let cost = words.nth(1).map_or(Some(0), |cost| cost.parse().ok())?;
    Some((address, cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What callgrind writes of a function that copies by the C library.
    const TEXT: &str = "\
version: 1
positions: instr line
events: Ir
ob=/bin/ours
fl=ours.rs
fn=outer
0x100 7 3
fi=inlined.rs
0x104 9 2
cob=/lib/libc.so
cfi=memcpy.S
cfn=memcpy
calls=5 0x900 1
0x108 9 40
0x10c 9 1

ob=/lib/libc.so
fl=memcpy.S
fn=memcpy
0x900 1 40
";

    #[test]
    fn own_costs_and_those_of_calls_are_told_apart() {
        let profile = parse(TEXT).unwrap();
        let [outer, memcpy] = &profile.functions[..] else { panic!("two functions") };
        assert_eq!((&*outer.object, &*memcpy.object), ("/bin/ours", "/lib/libc.so"));
        assert_eq!(outer.own, [(0x100, 3), (0x104, 2), (0x10c, 1)]);
        assert_eq!(outer.calls, [(0x108, 1, 40)]);
        assert_eq!((&memcpy.own[..], memcpy.calls.len()), (&[(0x900, 40)][..], 0));
    }

    #[test]
    fn nothing_counted_is_said() {
        let message = parse("version: 1\nevents: Ir\n").err().unwrap().to_string();
        assert!(message.contains("counted nothing"), "{message}");
    }
}

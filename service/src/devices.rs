//! Device files that must be there, and the kernel's modules that bring them.

use std::path::Path;

use thiserror::Error;

/// A device file, and the module that brings it.
#[derive(Clone, Copy, Debug)]
pub struct Needed {
    /// The file, from the root.
    pub path: &'static str,
    /// The module.
    pub module: &'static str,
}

/// A device file is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{path} is missing: load the module {module} (this must be a domain of a Xen host)")]
pub struct Missing {
    path: &'static str,
    module: &'static str,
}

/// Looks whether all of them are there, below `root`.
pub fn require(root: &Path, needed: &[Needed]) -> Result<(), Missing> {
    for Needed { path, module } in needed {
        if !root.join(path.trim_start_matches('/')).exists() {
            return Err(Missing { path, module });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_named() {
        let needed = [
            Needed { path: "/dev/null", module: "null" },
            Needed { path: "/dev/xenvelope/none", module: "xen-none" },
        ];
        assert_eq!(require(Path::new("/"), &needed[..1]), Ok(()));
        let error = require(Path::new("/"), &needed).expect_err("there is no such device");
        let text = error.to_string();
        assert!(text.contains("/dev/xenvelope/none") && text.contains("xen-none"), "{text}");
    }
}

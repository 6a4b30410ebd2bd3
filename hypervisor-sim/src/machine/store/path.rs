//! Paths of the store.

use std::fmt;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::StoreError;

/// Longest absolute path.
pub(super) const MAX_PATH: usize = 1024;

/// Where a domain's own nodes are.
pub(super) fn home(domid: DomId) -> String {
    format!("/local/domain/{domid}")
}

/// A well-formed absolute path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Path(String);

impl Path {
    /// Resolves `path`, which may be relative to the domain's home.
    pub(super) fn absolute(path: &str, of: DomId) -> Result<Path, StoreError> {
        let path = match path {
            "" => return Err(StoreError::Malformed),
            "/" => return Ok(Path(String::new())),
            _ if path.starts_with('/') => path.to_owned(),
            _ => format!("{}/{path}", home(of)),
        };
        if path.len() > MAX_PATH {
            return Err(StoreError::TooLong);
        }
        // The characters that docs/misc/xenstore.txt allows; no empty name anywhere (XSA-481).
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_@+".contains(&byte);
        let good = |name: &str| !name.is_empty() && name.bytes().all(allowed);
        if path[1..].split('/').all(good) { Ok(Path(path)) } else { Err(StoreError::Malformed) }
    }

    /// The names from the root down.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    pub(super) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn as_str(&self) -> &str {
        if self.is_root() { "/" } else { &self.0 }
    }

    /// The node that the first `depth` names lead to.
    pub(super) fn above(&self, depth: usize) -> Path {
        let names = self.names().take(depth);
        Path(names.fold(String::new(), |path, name| path + "/" + name))
    }

    /// The node above; of the root, the root.
    pub(super) fn parent(&self) -> Path {
        Path(self.0.rsplit_once('/').map_or_else(String::new, |(above, _)| above.to_owned()))
    }

    /// At or below the home of that domain.
    pub(super) fn is_in_home_of(&self, domid: DomId) -> bool {
        is_at_or_below(self.as_str(), &home(domid))
    }

    /// A guest writes its own part only, the toolstack everything.
    pub(super) fn is_writable_by(&self, domid: DomId) -> bool {
        domid == DomId::DOM0 || self.is_in_home_of(domid)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether `path` is `top` or below it. Compared name by name: `/a/bc` is not below `/a/b`.
pub(super) fn is_at_or_below(path: &str, top: &str) -> bool {
    if top == "/" {
        return true;
    }
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

//! What is a path.

use super::{ABSOLUTE_PATH_MAX, RELATIVE_PATH_MAX, WireError};

/// Checks a node's path, absolute or relative: the characters that `docs/misc/xenstore.txt`
/// allows, no empty name anywhere (XSA-481), not too long. The
/// special ones of watches (`@releaseDomain`) have the same form. A path that passes holds no nul, so it
/// cannot be taken for two.
pub fn check_path(path: &str) -> Result<(), WireError> {
    if path == "/" {
        return Ok(());
    }
    let (names, longest) = match path.strip_prefix('/') {
        Some(names) => (names, ABSOLUTE_PATH_MAX),
        None => (path, RELATIVE_PATH_MAX),
    };
    if path.len() > longest {
        return Err(WireError::TooLong);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_@+".contains(&byte);
    let good = |name: &str| !name.is_empty() && name.bytes().all(allowed);
    if names.split('/').all(good) { Ok(()) } else { Err(WireError::Path) }
}

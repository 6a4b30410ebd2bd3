//! The vif: whether the toolstack has made it, and whether the kernel's netfront has it.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use xenvelope_grant::seam::{Store, StoreError};
use xenvelope_grant::xenbus::{Directory, XenbusState, key};

use crate::config::Mtu;

/// In the frontend's directory, written by the toolstack (`xen/include/public/io/netif.h`).
const MTU: &str = "mtu";

/// Whether the toolstack has made the vif.
pub fn is_there(store: &impl Store, vif: u32) -> Result<bool, StoreError> {
    let directory = directory(vif)?;
    for name in [key::BACKEND, key::BACKEND_ID, key::MAC] {
        match directory.text(store, name) {
            Ok(_) => {}
            Err(StoreError::NoEntry) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Whether our side of the vif is down, as the store has it, or gone.
pub fn is_closed(store: &impl Store, vif: u32) -> bool {
    let state = directory(vif).map(|directory| directory.state(store));
    matches!(state, Ok(XenbusState::Closed | XenbusState::Unknown) | Err(_))
}

/// The MTU that the toolstack says, or everybody's.
pub fn mtu(store: &impl Store, vif: u32) -> Mtu {
    let said = directory(vif).and_then(|directory| directory.number(store, MTU)).ok();
    let said = said.and_then(|mtu| i64::try_from(mtu).ok()).and_then(|mtu| mtu.try_into().ok());
    said.unwrap_or(Mtu::ETHERNET)
}

fn directory(vif: u32) -> Result<Directory, StoreError> {
    Directory::new("device/vif")?.child(vif)
}

/// Sees that no driver of the kernel has the vif, below `root`. Takes it from one if `take_over`.
pub fn free(root: &Path, vif: u32, take_over: bool) -> anyhow::Result<()> {
    let name = format!("vif-{vif}");
    let device = root.join("sys/bus/xen/devices").join(&name);
    match fs::symlink_metadata(device.join("driver")) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot see who has {name}")),
    }
    if !take_over {
        bail!(
            "the kernel's xen-netfront has {name}: say `take-over = true` in the configuration, or \
             keep that module from loading (modprobe.d), and start again"
        );
    }
    let unbind = device.join("driver/unbind");
    fs::write(&unbind, &name)
        .with_context(|| format!("cannot take {name} from xen-netfront ({})", unbind.display()))?;
    tracing::info!(device = name, "taken from the kernel's xen-netfront");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// A machine whose netfront has vif-0, or nobody.
    fn machine(name: &str, bound: bool) -> PathBuf {
        let root =
            std::env::temp_dir().join(format!("xenvelope-dev-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let device = root.join("sys/bus/xen/devices/vif-0");
        fs::create_dir_all(&device).expect("a directory can be made");
        fs::create_dir_all(root.join("sys/bus/xen/drivers/vif")).expect("a directory can be made");
        if bound {
            symlink("../../drivers/vif", device.join("driver")).expect("a link can be made");
        }
        root
    }

    #[test]
    fn a_vif_of_netfronts_is_taken_only_if_told() {
        let root = machine("bound", true);
        let error = free(&root, 0, false).expect_err("netfront has it");
        assert!(error.to_string().contains("take-over = true"), "{error}");
        let unbind = root.join("sys/bus/xen/drivers/vif/unbind");
        assert!(!unbind.exists());
        free(&root, 0, true).expect("it can be taken");
        assert_eq!(fs::read_to_string(unbind).expect("it was written"), "vif-0");
        fs::remove_dir_all(root).expect("it was made here");
    }

    #[test]
    fn a_vif_that_nobody_has_is_free() {
        let root = machine("free", false);
        free(&root, 0, false).expect("nobody has it");
        free(&root, 1, false).expect("there is none");
        fs::remove_dir_all(root).expect("it was made here");
    }
}

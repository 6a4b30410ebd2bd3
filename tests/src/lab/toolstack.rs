//! What the toolstack does.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Store as _};
use xenvelope_hypervisor_sim::host;
use xenvelope_hypervisor_sim::machine::Domain;
use xenvelope_switch::MacAddress;

/// What the toolstack does for one interface.
///
/// # Panics
/// If the store refuses.
pub fn make_vif(dom0: &Domain, guest: DomId, mac: MacAddress) {
    host::make_vif(dom0, guest, mac).expect("the toolstack may write");
}

/// What the toolstack does when a guest is gone.
///
/// # Panics
/// If the store refuses.
pub fn remove_vif(dom0: &Domain, guest: DomId) {
    // As libxl does: the device first, then what is left empty.
    for path in [
        format!("/local/domain/0/backend/vif/{guest}/0"),
        format!("/local/domain/{guest}/device/vif/0"),
        format!("/local/domain/0/backend/vif/{guest}"),
    ] {
        dom0.commit(&[Change::Remove { path: &path }]).expect("the toolstack may write");
    }
}

//! What the toolstack does.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Store as _};
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_hypervisor_sim::machine::Domain;
use xenvelope_switch::MacAddress;

/// What the toolstack does for one interface.
///
/// # Panics
/// If the store refuses.
pub fn make_vif(dom0: &Domain, guest: DomId, mac: MacAddress) {
    let front = Directory::new(&format!("/local/domain/{guest}/device/vif/0")).expect("a path");
    let back = Directory::new(&format!("/local/domain/0/backend/vif/{guest}/0")).expect("a path");
    let reader = Some(guest);
    let mut keys = Transaction::new();
    keys.write(&front, key::BACKEND, back.path(), reader)
        .write(&front, key::BACKEND_ID, 0, reader)
        .write(&front, key::HANDLE, 0, reader)
        .write(&front, key::MAC, mac, reader)
        .state(&front, XenbusState::Initialising, reader)
        .write(&back, key::FRONTEND, front.path(), reader)
        .write(&back, key::FRONTEND_ID, guest, reader)
        .write(&back, key::HANDLE, 0, reader)
        .write(&back, key::MAC, mac, reader)
        .write(&back, key::ONLINE, 1, reader)
        .state(&back, XenbusState::Initialising, reader);
    keys.commit(dom0).expect("the toolstack may write");
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

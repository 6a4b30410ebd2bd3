//! What the toolstack writes into the store, as libxl does.

use xenvelope_grant::DomId;
use xenvelope_grant::seam::StoreError;
use xenvelope_grant::xenbus::{Directory, Transaction, XenbusState, key};
use xenvelope_switch::MacAddress;

use crate::machine::Domain;

/// The toolstack's part of an interface: both directories, state Initialising.
pub fn make_vif(dom0: &Domain, guest: DomId, mac: MacAddress) -> Result<(), StoreError> {
    let front = Directory::new(&format!("/local/domain/{guest}/device/vif/0"))?;
    let back = Directory::new(&format!("/local/domain/0/backend/vif/{guest}/0"))?;
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
        // The hotplug script's word: here there is none that would have to run.
        .write(&back, key::HOTPLUG_STATUS, "connected", reader)
        .state(&back, XenbusState::Initialising, reader);
    keys.commit(dom0)
}

/// The driver domain's agent has lent the guest context `context` of the card: it says so in the
/// interface's directory.
pub fn offer_context(dom0: &Domain, guest: DomId, context: usize) -> Result<(), StoreError> {
    let back = Directory::new(&format!("/local/domain/0/backend/vif/{guest}/0"))?;
    let mut keys = Transaction::new();
    keys.write(&back, key::NIC_CONTEXT, context, Some(guest)).commit(dom0)
}

/// The context that a guest was lent, as it finds it in the store. None if it was not.
pub fn find_context(guest: &Domain) -> Result<Option<usize>, StoreError> {
    let front = Directory::new("device/vif/0")?;
    let back = Directory::new(&front.text(guest, key::BACKEND)?)?;
    match back.word(guest, key::NIC_CONTEXT) {
        Ok(context) => Ok(Some(context as usize)),
        Err(StoreError::NoEntry | StoreError::NoPermission) => Ok(None),
        Err(error) => Err(error),
    }
}

//! States: what the frontend says, and what the toolstack says of the device.
//!
//! As in Linux' netback (`frontend_changed`, `set_backend_state`): Closing is answered by
//! Closing, Closed by Closed, and a frontend that begins anew gets InitWait as long as the
//! device is to stay. To remove a device libxl writes `online` = 0 and *our* state = Closing, in
//! one transaction, and waits for Closed.

use xenvelope_grant::seam::{Hypervisor, NicPort};
use xenvelope_grant::xenbus::{XenbusState, key};

use crate::driver_domain::{Backend, BackendError};
use crate::uplink::PfControl;
use crate::vif::Phase;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>, C: PfControl> Backend<H, N, C> {
    pub(super) fn follow_or_close(&mut self, port: u32) {
        if let Err(error) = self.follow(port) {
            tracing::warn!(port, %error, "interface failed, closing");
            self.close_vif(port);
        }
    }

    /// Follows a frontend's state, and what the toolstack has done to ours.
    fn follow(&mut self, port: u32) -> Result<(), BackendError> {
        let Some(vif) = self.vifs.get(&port) else {
            return Ok(());
        };
        let (phase, back, front) = (vif.phase, vif.back, vif.front);
        // Absent, it is meant to stay.
        let offline = back.number(&self.host, key::ONLINE) == Ok(0);
        if back.state(&self.host) == XenbusState::Closing && (phase != Phase::Closing || offline) {
            self.take_down(port);
            return self.write_state(port, XenbusState::Closed);
        }
        // As Linux' netback: until the script has plugged it in, nothing is there that frames
        // could go to. The script's word comes with a change of the store.
        let plugged = back.text(&self.host, key::HOTPLUG_STATUS).as_deref() == Ok("connected");
        match (front.state(&self.host), phase) {
            (XenbusState::Connected, Phase::InitWait) if plugged => self.connect(port)?,
            (XenbusState::Connected, Phase::Connected) => self.stay_connected(port)?,
            // It comes back, but the device is not to stay.
            (XenbusState::Initialising, Phase::Connected | Phase::Closing) if offline => {
                self.close_vif(port);
            }
            (XenbusState::Initialising, Phase::Closed) if offline => {}
            (XenbusState::Initialising, Phase::Connected | Phase::Closing | Phase::Closed) => {
                // It comes back, or somebody else came in its place: a new life, and the
                // handshake from the start. Nothing is said of the old life's end: who waits for
                // InitWait must not read Closing.
                self.take_down(port);
                let incarnation = self.next_incarnation();
                if let Some(vif) = self.vifs.get_mut(&port) {
                    vif.incarnation = incarnation;
                }
                self.offer(port)?;
            }
            (XenbusState::Closing, Phase::InitWait | Phase::Connected) => {
                self.take_down(port);
                if let Some(vif) = self.vifs.get_mut(&port) {
                    vif.phase = Phase::Closing;
                }
                self.write_state(port, XenbusState::Closing)?;
            }
            // It does not say Closing first: Linux' netback goes through both then, too.
            (XenbusState::Closed | XenbusState::Unknown, Phase::Connected)
            | (XenbusState::Closed, Phase::InitWait) => self.close_vif(port),
            (theirs, Phase::Closing) if theirs != XenbusState::Closing => {
                self.take_down(port);
                self.write_state(port, XenbusState::Closed)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Both sides are connected: by us, or by a process before us.
    fn stay_connected(&mut self, port: u32) -> Result<(), BackendError> {
        let Some(vif) = self.vifs.get_mut(&port) else {
            return Ok(());
        };
        if vif.rings.is_none() {
            return self.adopt(port);
        }
        let vf = vif.front.feature(&self.host, key::VF_LINK);
        if vf != vif.vf {
            vif.vf = vf;
            self.manager.touch();
        }
        Ok(())
    }
}

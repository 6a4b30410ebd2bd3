//! What the owner of the PF sets.

use std::sync::Arc;

use thiserror::Error;
use xenvelope_grant::DomId;

use super::Nic;
use super::engine::Engine;
use super::kind::Functions;
use super::table::Mac;

/// Why a setting was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CardError {
    /// The card has no VF of that number.
    #[error("the card has no VF {0}")]
    NoSuchVf(usize),
    /// Every VF is in use.
    #[error("no VF is left")]
    NoVfLeft,
    /// A domain has the port.
    #[error("the port is in use")]
    PortInUse,
    /// Another port has that address.
    #[error("the MAC address is in use")]
    MacInUse,
    /// A group address, or all zeros.
    #[error("not a MAC address that a port can have")]
    BadMac,
    /// VLANs are 1 to 4094; 0 is none.
    #[error("no such VLAN")]
    BadVlan,
    /// The ports of a multi-queue card are the driver domain's.
    #[error("the queues of a multi-queue card are the driver domain's: guests get no direct I/O")]
    NotForGuests,
    /// The card would reach all of the machine's memory for a guest.
    #[error("nothing translates the card's addresses: guests get no direct I/O")]
    NoTranslation,
    /// The PF's owner has not lent the context to that domain.
    #[error("the context was not lent to the domain")]
    NotLent,
    /// Functions are assigned by the toolstack, contexts lent by the PF's owner.
    #[error("the card's ports are functions of their own, which the toolstack assigns")]
    NoContexts,
    /// There is no such domain.
    #[error("there is no such guest")]
    NoSuchGuest,
    /// The wire is no domain's.
    #[error("the wire cannot be given to a domain")]
    NotForDomains,
    /// The rings do not fit the memory given for them.
    #[error("the memory is too small for the descriptor rings")]
    RingsTooSmall,
    /// Somebody is connected to the wire.
    #[error("the wire is in use")]
    WireInUse,
}

/// The card's settings, in the hands of the PF's owner: the driver domain.
#[derive(Clone)]
pub struct PfControl {
    nic: Arc<Nic>,
}

impl PfControl {
    pub(super) fn new(nic: Arc<Nic>) -> PfControl {
        PfControl { nic }
    }

    /// Gives a VF its address. Its driver sees the new one at once.
    pub fn set_vf_mac(&self, vf: usize, mac: Mac) -> Result<(), CardError> {
        check_mac(mac)?;
        let mut engine = self.nic.lock();
        let number = engine.vf(vf)?;
        let used = |(other, port): (usize, &super::port::Port)| other != number && port.mac == mac;
        if engine.ports.iter().enumerate().skip(1).any(used) || engine.pf_has(mac) {
            return Err(CardError::MacInUse);
        }
        engine.ports[number].mac = mac;
        engine.ports[number].registers.set_mac(mac);
        engine.update_table();
        Ok(())
    }

    /// Gives a VF the address that it had at first, which no guest has.
    pub fn reset_vf_mac(&self, vf: usize) -> Result<(), CardError> {
        let mac = self.nic.config().first_mac(vf.saturating_add(1));
        self.set_vf_mac(vf, mac)
    }

    /// Sets whether broadcast and multicast reach a VF.
    pub fn set_vf_floods(&self, vf: usize, on: bool) -> Result<(), CardError> {
        let mut engine = self.nic.lock();
        let number = engine.vf(vf)?;
        engine.ports[number].floods = on;
        engine.update_table();
        Ok(())
    }

    /// Lends a context of the device to a domain, or takes the loan back. Who uses it already goes
    /// on until it lets go, or is unplugged.
    pub fn lend_context(&self, vf: usize, to: Option<DomId>) -> Result<(), CardError> {
        if self.nic.config().functions != Functions::Contexts {
            return Err(CardError::NoContexts);
        }
        let mut engine = self.nic.lock();
        let number = engine.vf(vf)?;
        engine.ports[number].lent_to = to;
        Ok(())
    }

    /// Whether the card passes frames from one port on to another.
    pub fn switches(&self) -> bool {
        self.nic.config().kind.switches()
    }

    /// Puts a VF into a VLAN, 0 for none. The card puts the tag in and takes it out.
    pub fn set_vf_vlan(&self, vf: usize, vid: u16) -> Result<(), CardError> {
        check_vlan(vid)?;
        let mut engine = self.nic.lock();
        let number = engine.vf(vf)?;
        engine.ports[number].vid = vid;
        engine.update_table();
        Ok(())
    }

    /// Whether VFs may send only from their own address.
    pub fn set_anti_spoof(&self, on: bool) {
        self.nic.lock().anti_spoof = on;
    }

    /// Whether VFs may send only from their own address: for whoever must know before it relies
    /// on source addresses.
    pub fn anti_spoof(&self) -> bool {
        self.nic.lock().anti_spoof
    }

    /// Whether the PF gets what comes by the wire for nobody that the card knows, and broadcasts
    /// of every VLAN: what a software bridge behind it needs.
    pub fn set_pf_promiscuous(&self, on: bool) {
        let mut engine = self.nic.lock();
        engine.promiscuous = on;
        engine.update_table();
    }

    /// The PF gets frames for that address in that VLAN: those of a guest behind the bridge.
    /// It is no error if it does so already.
    pub fn add_pf_filter(&self, mac: Mac, vid: u16) -> Result<(), CardError> {
        check_mac(mac)?;
        check_vlan(vid)?;
        let mut engine = self.nic.lock();
        // While a VF is unplugged its guest may be reached through the PF.
        if engine.ports.iter().skip(1).any(|port| port.plugged && port.mac == mac) {
            return Err(CardError::MacInUse);
        }
        engine.pf_filters.insert((mac, vid));
        engine.update_table();
        Ok(())
    }

    /// Ends [`PfControl::add_pf_filter`]. It is no error if there was none.
    pub fn remove_pf_filter(&self, mac: Mac, vid: u16) {
        let mut engine = self.nic.lock();
        engine.pf_filters.remove(&(mac, vid));
        engine.update_table();
    }
}

fn check_mac(mac: Mac) -> Result<(), CardError> {
    if mac[0] & 1 != 0 || mac == [0; 6] { Err(CardError::BadMac) } else { Ok(()) }
}

fn check_vlan(vid: u16) -> Result<(), CardError> {
    if vid > 4094 { Err(CardError::BadVlan) } else { Ok(()) }
}

impl Engine {
    /// The port of a VF.
    pub(super) fn vf(&self, vf: usize) -> Result<usize, CardError> {
        if vf < self.ports.len() - 1 { Ok(vf + 1) } else { Err(CardError::NoSuchVf(vf)) }
    }

    /// Whether the PF has a filter for that address, in whatever VLAN.
    fn pf_has(&self, mac: Mac) -> bool {
        self.pf_filters.iter().any(|&(filter, _)| filter == mac)
    }

    /// Takes a VF away from its driver, at once.
    pub(super) fn unplug(&mut self, vf: usize) -> Result<(), CardError> {
        let number = self.vf(vf)?;
        self.ports[number].plugged = false;
        self.update_link(number);
        Ok(())
    }

    /// Gives a VF back.
    pub(super) fn plug(&mut self, vf: usize) -> Result<(), CardError> {
        let number = self.vf(vf)?;
        if self.pf_has(self.ports[number].mac) {
            return Err(CardError::MacInUse);
        }
        self.ports[number].plugged = true;
        self.update_link(number);
        Ok(())
    }
}

//! Whether an envelope that the card's switch delivers lets its receiver read: tried, with two VFs
//! and nobody else on the way.

use std::sync::Arc;

use xenvelope_grant::seam::{Buffer, Granter, Host, Instant, Mechanism, NicPort, Offload};

use super::scene::{mac, overheard};
use super::{CompareError, Leaf, Scene, Way};
use crate::machine::{Costs, Domain, Machine};
use crate::nic::{CardPort, DomainPort, Nic, NicConfig};

/// What came of the trial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CardTrial {
    /// The card delivered the envelope.
    pub arrived: bool,
    /// The receiver read the frame that the envelope names.
    pub read: bool,
}

/// Turns of the card: more than one small frame takes.
const TURNS: u64 = 1000;
/// Nanoseconds from one to the next: more than the card's latency in all.
const TURN_NS: u64 = 1000;

/// Sends an envelope from one VF to another and has its receiver read.
///
/// # Errors
/// If domains or VFs could not be had.
pub fn try_card(mechanism: Mechanism) -> Result<CardTrial, CompareError> {
    let machine = Machine::new(Costs::ideal());
    let domains = ["driver-domain", "sender", "receiver", "third"]
        .map(|name| machine.create_domain(name, 4096));
    let nic = Nic::new(NicConfig::default())?;
    let from = vf_of(&nic, &domains[1], 1)?;
    let to = vf_of(&nic, &domains[2], 2)?;
    let scene = Scene::among(machine, domains, mechanism, Way::Card)?;
    to.refill(&scene.receiver, 0);
    to.kick();
    let length = scene.envelope.len();
    let no_buffer = CompareError::Scene("memory");
    let Ok(mut buffer) = scene.sender.take(None, length) else { return Err(no_buffer) };
    buffer.put(0, &scene.envelope);
    if from.send(buffer, 0..length, Offload::default()).is_err() {
        return Err(CompareError::Scene("room in the card's ring"));
    }
    from.kick();
    for turn in 1..TURNS {
        nic.run(Instant(turn * TURN_NS));
    }
    let Some(arrival) = to.receive() else {
        return Ok(CardTrial { arrived: false, read: false });
    };
    let mut envelope = vec![0; arrival.frame.len()];
    arrival.buffer.get(arrival.frame.start, &mut envelope);
    let leaf = overheard(&envelope, scene.leaf.owner)?;
    // Whoever it may be that granted: the sender, or the driver domain for it.
    let owners = [scene.sender.domid(), scene.driver.domid()];
    let read = owners.into_iter().any(|owner| scene.reads(&scene.receiver, Leaf { owner, ..leaf }));
    Ok(CardTrial { arrived: true, read })
}

fn vf_of(nic: &Arc<Nic>, domain: &Domain, number: u8) -> Result<DomainPort, CompareError> {
    let vf = nic.allocate_vf()?;
    nic.pf_control().set_vf_mac(vf, mac(number).0)?;
    Ok(nic.assign(CardPort::Vf(vf), domain)?)
}

//! Four domains, a frame that one of them sends to another, and the envelope that says so: what
//! attacks begin with.

use std::sync::Arc;

use xenvelope_grant::seam::{
    Access, Buffer, Copier, CopyOp, End, Granter, Host, Mechanism, Offload, Pinned, Segment,
};
use xenvelope_grant::{DomId, PAGE_SIZE, Peer};
use xenvelope_switch::MacAddress;
use xenvelope_switch::envelope::{
    Addresses, Body, DeliverHead, Envelope, EnvelopeBuilder, FrameHead,
};
use xenvelope_switch::ethernet::ether_type;

use super::CompareError;
use crate::machine::{Costs, Domain, GrantedBuffer, Machine};

/// Pages of each domain.
const PAGES: usize = 256;
/// Bytes of a frame after its header.
const FRAME: usize = 1000;

/// The address of the `number`th guest.
pub(super) fn mac(number: u8) -> MacAddress {
    MacAddress([0x02, 0x78, 0x76, 0x6d, 0, number])
}

/// What switches the envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The driver domain, which passes on what was granted to it.
    DriverDomain,
    /// The card, which can do nothing of that kind.
    Card,
}

/// What can be learnt from an envelope about one granted piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Whose reference it is.
    pub owner: DomId,
    /// The piece.
    pub segment: Segment,
    /// The key, if there is one.
    pub key: Option<u64>,
}

/// The four domains, and the frame on its way.
pub struct Scene {
    /// The machine.
    pub machine: Arc<Machine>,
    /// The driver domain.
    pub driver: Domain,
    /// Who sends.
    pub sender: Domain,
    /// Whom the frame is for.
    pub receiver: Domain,
    /// A third guest.
    pub third: Domain,
    /// The mechanism.
    pub mechanism: Mechanism,
    /// The bytes that only the receiver should read.
    pub secret: Vec<u8>,
    /// The envelope as it is on the way.
    pub envelope: Vec<u8>,
    /// What it grants.
    pub leaf: Leaf,
    granted: Option<GrantedBuffer>,
}

fn lack<T, E>(result: Result<T, E>, of: &'static str) -> Result<T, CompareError> {
    result.map_err(|_| CompareError::Scene(of))
}

impl Scene {
    /// The scene under a mechanism: the frame is granted, passed on where that is how it goes, and
    /// its envelope is written.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn set(mechanism: Mechanism) -> Result<Scene, CompareError> {
        let machine = Machine::new(Costs::ideal());
        let [driver, sender, receiver, third] = ["driver-domain", "sender", "receiver", "third"]
            .map(|name| machine.create_domain(name, PAGES));
        Scene::among(machine, [driver, sender, receiver, third], mechanism, Way::DriverDomain)
    }

    /// The same among domains that are there already.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn among(
        machine: Arc<Machine>,
        [driver, sender, receiver, third]: [Domain; 4],
        mechanism: Mechanism,
        way: Way,
    ) -> Result<Scene, CompareError> {
        let secret: Vec<u8> = (0..FRAME / 8).flat_map(|_| sender.random().to_le_bytes()).collect();
        let mut buffer = lack(sender.take(None, PAGE_SIZE), "memory")?;
        buffer.put(0, &secret);
        let used = 0..secret.len();
        let key = sender.random();
        let grant_to = |buffer, peer| {
            lack(sender.grant(buffer, peer, used.clone(), Access::Read), "references")
        };
        let (granted, owner) = match mechanism {
            Mechanism::Destination => (grant_to(buffer, receiver.peer())?, sender.domid()),
            Mechanism::Transitive => {
                let owner = if way == Way::Card { &sender } else { &driver };
                (grant_to(buffer, driver.peer())?, owner.domid())
            }
            Mechanism::Keyed => {
                let granted = sender.grant_keyed(buffer, key, used);
                (lack(granted, "references")?, sender.domid())
            }
        };
        let mut segment = sender.segments(&granted)[0];
        if mechanism == Mechanism::Transitive && way == Way::DriverDomain {
            segment.gref = pass_on(&driver, sender.domid(), segment.gref, receiver.peer())?;
        }
        let addresses = Addresses { destination: mac(2), source: mac(1), tci: None };
        let head =
            DeliverHead { epoch: 1, sequence: 0, nonce: key, tagged: false, want_done: false };
        let mut builder = EnvelopeBuilder::deliver(addresses, head, None);
        builder.mark(mechanism);
        let total = secret.len() as u16;
        let frame = FrameHead { ether_type: ether_type::IPV4, total, offload: Offload::default() };
        lack(builder.push_granted(frame, &[segment]), "room in the envelope")?;
        let envelope = builder.finish().to_vec();
        let leaf = overheard(&envelope, owner)?;
        let granted = Some(granted);
        Ok(Scene {
            machine,
            driver,
            sender,
            receiver,
            third,
            mechanism,
            secret,
            envelope,
            leaf,
            granted,
        })
    }

    /// Whether `thief` gets at the secret by `leaf`.
    pub fn reads(&self, thief: &Domain, leaf: Leaf) -> bool {
        read(thief, leaf).is_some_and(|bytes| bytes == self.secret)
    }

    /// The sender takes the frame back, as it does after a done; `false` while it is in use.
    pub fn take_back(&mut self) -> bool {
        let Some(granted) = self.granted.take() else { return true };
        if let Err(Pinned(granted)) = self.sender.revoke(granted) {
            self.granted = Some(granted);
            return false;
        }
        true
    }
}

/// The driver domain passes on what it was granted.
pub(super) fn pass_on(
    driver: &Domain,
    from: DomId,
    theirs: xenvelope_grant::Gref,
    to: Peer,
) -> Result<xenvelope_grant::Gref, CompareError> {
    let ours = lack(driver.reserve(), "references")?;
    lack(driver.pass_on(ours, from, theirs, to), "transitive grants")?;
    Ok(ours)
}

/// What somebody learns who sees an envelope. Whose references they are everybody knows.
pub(super) fn overheard(envelope: &[u8], owner: DomId) -> Result<Leaf, CompareError> {
    let envelope = lack(Envelope::parse(envelope), "an envelope that can be read")?;
    let Body::Deliver(deliver) = envelope.body else {
        return Err(CompareError::Scene("an envelope with a frame"));
    };
    let key = (envelope.mechanism == Mechanism::Keyed).then_some(deliver.head.nonce);
    let segment = deliver.frames.flat_map(|frame| frame.segments).next();
    let segment = segment.ok_or(CompareError::Scene("an envelope with a frame"))?;
    Ok(Leaf { owner, segment, key })
}

/// What a domain gets that copies by a reference, with the key if there is one.
pub(super) fn read(by: &Domain, leaf: Leaf) -> Option<Vec<u8>> {
    let Leaf { owner: dom, segment: Segment { gref, offset, len }, key } = leaf;
    let src = match key {
        None => End::Foreign { dom, gref, offset },
        Some(key) => End::Keyed { dom, gref, offset, key },
    };
    let mut ops = [CopyOp::new(src, End::Local { buffer: 0, offset: 0 }, len)];
    let mut buffers = [by.take(None, PAGE_SIZE).ok()?];
    by.copy(&mut ops, &mut buffers).ok()?;
    ops[0].status.check().ok()?;
    let mut bytes = vec![0; usize::from(len)];
    buffers[0].get(0, &mut bytes);
    Some(bytes)
}

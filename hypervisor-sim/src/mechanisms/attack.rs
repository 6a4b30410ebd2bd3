//! Attacks, carried out on the machine: each either gets what it is after or does not.

use xenvelope_grant::Gref;
use xenvelope_grant::seam::{Host, Mechanism, Segment};

use super::scene::{pass_on, read};
use super::{CompareError, Leaf, Scene, Way};

/// An attack on a frame that is on its way from one guest to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attack {
    /// A third guest has seen the envelope, and copies before the receiver does.
    Overheard,
    /// A third guest tries all references of whoever granted, under mechanism keyed with guessed
    /// keys.
    Guessed,
    /// A third guest has seen the envelope and uses its grant, so that the receiver gets nothing.
    Starved,
    /// The receiver copies a second time, before the sender has taken the frame back.
    UsedTwice,
    /// The receiver copies what the sender sends to another guest, by the reference of that.
    OthersGrant,
    /// The driver domain, which the envelope goes through, copies the frame itself.
    DriverDomainReads,
    /// The driver domain gives the right to read to a third guest.
    PassedToWrongGuest,
}

/// What came of an attack.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whether it got what it was after.
    pub succeeded: bool,
    /// Whether the receiver could read the frame afterwards.
    pub delivered: bool,
    /// What was tried, in a few words.
    pub tried: String,
}

/// References that are tried.
const REFERENCES: u32 = 1024;
/// Keys that are tried with each.
const KEYS: usize = 64;

impl Attack {
    /// All of them, in the order of the table.
    pub const ALL: [Attack; 7] = [
        Attack::Overheard,
        Attack::Guessed,
        Attack::Starved,
        Attack::UsedTwice,
        Attack::OthersGrant,
        Attack::DriverDomainReads,
        Attack::PassedToWrongGuest,
    ];

    /// What it is, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Attack::Overheard => "third guest overhears the envelope and reads",
            Attack::Guessed => "third guest guesses references (and keys)",
            Attack::Starved => "third guest overhears, receiver gets nothing",
            Attack::UsedTwice => "receiver reads a second time",
            Attack::OthersGrant => "receiver reads what was granted to another",
            Attack::DriverDomainReads => "driver domain on the way reads",
            Attack::PassedToWrongGuest => "driver domain lets the wrong guest read",
        }
    }

    /// What it is, for machines.
    pub const fn key(self) -> &'static str {
        match self {
            Attack::Overheard => "overheard",
            Attack::Guessed => "guessed",
            Attack::Starved => "starved",
            Attack::UsedTwice => "used_twice",
            Attack::OthersGrant => "others_grant",
            Attack::DriverDomainReads => "driver_domain_reads",
            Attack::PassedToWrongGuest => "passed_to_wrong_guest",
        }
    }
}

/// Carries an attack out under a mechanism, in a scene of its own.
///
/// # Errors
/// If the scene could not be set.
pub fn carry_out(attack: Attack, mechanism: Mechanism) -> Result<Outcome, CompareError> {
    let scene = Scene::set(mechanism)?;
    let (succeeded, tried) = match attack {
        Attack::Overheard => {
            (scene.reads(&scene.third, scene.leaf), "the envelope's reference and key".to_owned())
        }
        Attack::Guessed => guess(&scene),
        Attack::Starved => {
            scene.reads(&scene.third, scene.leaf);
            let starved = !scene.reads(&scene.receiver, scene.leaf);
            return Ok(Outcome {
                succeeded: starved,
                delivered: !starved,
                tried: "one copy before the receiver's".to_owned(),
            });
        }
        Attack::UsedTwice => {
            let first = scene.reads(&scene.receiver, scene.leaf);
            let second = scene.reads(&scene.receiver, scene.leaf);
            return Ok(Outcome {
                succeeded: first && second,
                delivered: first,
                tried: "two copies by one reference".to_owned(),
            });
        }
        Attack::OthersGrant => others_grant(&scene)?,
        Attack::DriverDomainReads => driver_domain_reads(&scene),
        Attack::PassedToWrongGuest => passed_to_wrong_guest(&scene)?,
    };
    let delivered = scene.reads(&scene.receiver, scene.leaf);
    Ok(Outcome { succeeded, delivered, tried })
}

/// All references, of both who may have granted, without a key and with guessed ones.
fn guess(scene: &Scene) -> (bool, String) {
    let owners = [scene.sender.domid(), scene.driver.domid()];
    let keys = if scene.mechanism == Mechanism::Keyed { KEYS } else { 0 };
    let mut found = false;
    for owner in owners {
        for gref in (0..REFERENCES).map(Gref) {
            let segment = Segment { gref, ..scene.leaf.segment };
            let with = |key| scene.reads(&scene.third, Leaf { owner, segment, key });
            found |= with(None);
            found |= (0..keys).any(|_| with(Some(scene.third.random())));
        }
    }
    (found, format!("{REFERENCES} references, {keys} keys each"))
}

/// The sender sends to the third guest too; the receiver knows the reference, and has a key of its
/// own.
fn others_grant(scene: &Scene) -> Result<(bool, String), CompareError> {
    let domains = [&scene.driver, &scene.sender, &scene.third, &scene.receiver].map(Clone::clone);
    let other = Scene::among(scene.machine.clone(), domains, scene.mechanism, Way::DriverDomain)?;
    let leaf = Leaf { key: scene.leaf.key, ..other.leaf };
    let succeeded = read(&scene.receiver, leaf).is_some_and(|bytes| bytes == other.secret);
    Ok((succeeded, "the other's reference".to_owned()))
}

/// With what it has been granted, what it has seen, and the sender's references.
fn driver_domain_reads(scene: &Scene) -> (bool, String) {
    let mut read = scene.reads(&scene.driver, scene.leaf);
    for gref in (0..REFERENCES).map(Gref) {
        let segment = Segment { gref, ..scene.leaf.segment };
        let leaf = Leaf { owner: scene.sender.domid(), segment, key: None };
        read |= scene.reads(&scene.driver, leaf);
    }
    (read, format!("the envelope's reference and key, {REFERENCES} references of the sender"))
}

/// It passes the sender's references on to the third guest, and shows it the envelope.
fn passed_to_wrong_guest(scene: &Scene) -> Result<(bool, String), CompareError> {
    let mut succeeded = scene.reads(&scene.third, scene.leaf);
    let sender = scene.sender.domid();
    for (theirs, _, _) in scene.machine.scan_grants(sender) {
        let ours = pass_on(&scene.driver, sender, theirs, scene.third.peer())?;
        let segment = Segment { gref: ours, ..scene.leaf.segment };
        let leaf = Leaf { owner: scene.driver.domid(), segment, key: None };
        succeeded |= scene.reads(&scene.third, leaf);
    }
    Ok((succeeded, "a transitive grant of the sender's, and the envelope".to_owned()))
}

#[cfg(test)]
mod tests;

//! What a seed says: who is there, what they send, what goes wrong and how often.

use xenvelope_backend::PairRoute;
use xenvelope_frontend::Config;
use xenvelope_hypervisor_sim::machine::GrantVersion;

use super::faults::{Fault, OF};
use super::traffic::Lengths;
use crate::lab::Random;

/// How much goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Weather {
    /// Nothing at all: then nothing may be lost that is not counted, and nobody waits in vain.
    Fair,
    /// Some kinds of faults, now and then.
    Rough,
    /// Many kinds, often.
    Storm,
}

/// One guest.
#[derive(Clone, Copy, Debug)]
pub struct GuestPlan {
    /// A netfront as Linux has it, and no frontend of ours.
    pub stock: bool,
    /// Whether it has a VF.
    pub vf: bool,
    /// The version of its grant table.
    pub version: GrantVersion,
    /// Its memory, in pages.
    pub pages: usize,
    /// The frames of its grant table.
    pub grant_frames: usize,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Its guests, 2 to 6.
    pub guests: Vec<GuestPlan>,
    /// Whether the card drops forged sources.
    pub anti_spoof: bool,
    /// The card's rings.
    pub rings: (usize, usize),
    /// Whether a copy engine moves bytes.
    pub engine: bool,
    /// The version of the driver domain's grant table.
    pub driver_version: GrantVersion,
    /// The frontends' configuration.
    pub config: Config,
    /// Whether order within flows is promised: nobody gives up waiting for an older route.
    pub strict_order: bool,
    /// The ways that pairs may be asked to take.
    pub routes: Vec<PairRoute>,
    /// How long frames are.
    pub lengths: Lengths,
    /// One in so many turns a stack sends.
    pub pace: u64,
    /// How much goes wrong.
    pub weather: Weather,
    /// The chance of each fault, in [`OF`].
    pub rates: Vec<u64>,
    /// Whether all guests end at the end.
    pub tear_down: bool,
}

const ROUTES: [PairRoute; 7] = [
    PairRoute::Auto,
    PairRoute::Bridge,
    PairRoute::BridgeReceiverCopy,
    PairRoute::Switch,
    PairRoute::Direct,
    PairRoute::NicFrame,
    PairRoute::NicEnvelope,
];

impl Plan {
    /// What that seed says.
    pub fn of(seed: u64) -> Plan {
        let mut random = Random(seed.wrapping_mul(0xA24B_AED4_963E_E407) ^ 0x5851_F42D_4C95_7F2D);
        let one_in = |random: &mut Random, many: u64| random.below(many) == 0;
        let keyed = one_in(&mut random, 8);
        let all_v1 = !keyed && one_in(&mut random, 6);
        let tight = one_in(&mut random, 6);
        let guests = (0..2 + random.below(5))
            .map(|_| GuestPlan {
                stock: one_in(&mut random, 5),
                vf: random.below(5) < 3,
                version: if all_v1 || (!keyed && one_in(&mut random, 4)) {
                    GrantVersion::V1
                } else {
                    GrantVersion::V2
                },
                pages: if tight { 2200 } else { 8192 },
                grant_frames: if tight { 12 } else { 64 },
            })
            .collect();
        let strict_order = random.below(4) != 0;
        let mut config = Config { keyed, ..Config::default() };
        if strict_order {
            // Longer than anybody who is alive takes. What was sent to a guest that has died is not
            // done with before that.
            config.hold_timeout = std::time::Duration::from_secs(20);
        }
        if one_in(&mut random, 4) {
            config.peer_quota = 8 << random.below(5);
            config.backlog = 16 << random.below(4);
        }
        let first = random.below(ROUTES.len() as u64) as usize;
        let mut routes = match random.below(3) {
            0 => vec![ROUTES[first]],
            _ => ROUTES.to_vec(),
        };
        let weather = match random.below(8) {
            0 | 1 => Weather::Fair,
            2..6 => Weather::Rough,
            _ => Weather::Storm,
        };
        let anti_spoof = random.below(3) != 0;
        let rings = (16 << random.below(4), 64 << random.below(3));
        let engine = one_in(&mut random, 3);
        let driver_version =
            if one_in(&mut random, 5) { GrantVersion::V1 } else { GrantVersion::V2 };
        let lengths = random.pick(&[
            Lengths::Short,
            Lengths::Ordinary,
            Lengths::Ordinary,
            Lengths::Mixed,
            Lengths::Long,
        ]);
        let pace = 1 << random.below(6);
        let mut rates = rates(&mut random, weather);
        // What receiver copy does not bear, as backend/src/passing.rs says: that the driver domain's
        // process dies, or the sender's.
        let ends = [Fault::BackendKill, Fault::AgentRestart];
        if ends.iter().any(|fault| rates[*fault as usize] > 0) {
            routes.retain(|route| *route != PairRoute::BridgeReceiverCopy);
        }
        if routes.is_empty() {
            ends.iter().for_each(|fault| rates[*fault as usize] = 0);
            routes = vec![PairRoute::BridgeReceiverCopy];
        }
        Plan {
            seed,
            guests,
            anti_spoof,
            rings,
            engine,
            driver_version,
            config,
            strict_order,
            routes,
            lengths,
            pace,
            weather,
            rates,
            tear_down: one_in(&mut random, 3),
        }
    }
}

/// How often a kind happens in rough weather, in a million of the occasions that it has.
fn usual(fault: Fault) -> u64 {
    match fault {
        Fault::EnvelopeLost | Fault::EnvelopeDuplicated | Fault::EnvelopeLate => 20_000,
        Fault::FrameLost => 10_000,
        Fault::EventLost | Fault::EventDuplicated | Fault::EventLate => 20_000,
        Fault::EventSpurious => 5_000,
        Fault::CopyStatus | Fault::CopyCall => 10_000,
        Fault::GrantRefused | Fault::BufferRefused => 3_000,
        Fault::RevokePinned => 10_000,
        Fault::StoreLate => 100_000,
        Fault::GuestCrash | Fault::AgentRestart => 150,
        Fault::CrashInside => 300,
        // Of those that come back.
        Fault::DomidReused => 300_000,
        Fault::BackendKill | Fault::BackendShutdown => 80,
        Fault::VfUnplug => 300,
        // Without these there would be little to see: they happen in fair weather too.
        Fault::RouteChange => 1_000,
        Fault::PolicyChange => 200,
        Fault::GuestAsleep | Fault::BackendAsleep | Fault::CardAsleep => 1_000,
        Fault::TimeJump => 200,
        Fault::Burst => 500,
        Fault::SlowStack => 20_000,
    }
}

fn rates(random: &mut Random, weather: Weather) -> Vec<u64> {
    let rate = |fault: &Fault| {
        let dice = random.below(8);
        let scale = 1 + random.below(8);
        let (wanted, scale) = match (weather, fault) {
            (Weather::Fair, Fault::RouteChange | Fault::Burst) => (dice < 4, scale),
            (Weather::Fair, _) => (false, 0),
            (Weather::Rough, _) => (dice < 3, scale),
            (Weather::Storm, _) => (dice < 6, scale * 4),
        };
        if wanted { usual(*fault) * scale * OF / 4_000_000 } else { 0 }
    };
    Fault::ALL.iter().map(rate).collect()
}

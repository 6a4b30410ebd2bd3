//! The grant mechanisms of the paper's section 3.3 side by side: what each costs, whom one must
//! trust with it, whether it works through the card's switch, and what had to be changed for it.
//!
//! Nothing here is an opinion but the changes: costs are counted and timed in transfers, attacks
//! are carried out, and the card is tried.

mod attack;
mod card;
mod changes;
mod cost;
mod scene;
mod tables;

use thiserror::Error;
use xenvelope_grant::seam::Mechanism;

pub use attack::{Attack, Outcome, carry_out};
pub use card::{CardTrial, try_card};
pub use changes::{Changes, changes};
pub use cost::{Cost, routes_of};
pub use scene::{Leaf, Scene, Way};

use crate::host::HostError;
use crate::machine::Costs;
use crate::measure::{FrameSize, Limits, MeasureError};
use crate::nic::{AttachError, CardError, ConfigError};

/// What is to be compared.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Frame sizes of the transfers.
    pub frames: Vec<FrameSize>,
    /// When a transfer is long enough.
    pub limits: Limits,
    /// What calls, events and the card cost.
    pub costs: Costs,
}

/// Why a comparison failed.
#[derive(Debug, Error)]
pub enum CompareError {
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A transfer.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The card.
    #[error(transparent)]
    Card(#[from] CardError),
    /// A VF could not be given to a guest.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The card's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A domain of an attack had no memory, no references, or the card no VF for it.
    #[error("the scene of an attack could not be set: {0}")]
    Scene(&'static str),
}

/// One mechanism.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Which.
    pub mechanism: Mechanism,
    /// Transfers.
    pub costs: Vec<Cost>,
    /// What came of each attack.
    pub attacks: Vec<(Attack, Outcome)>,
    /// The trial on the card.
    pub card: CardTrial,
    /// What had to be changed.
    pub changes: Changes,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// By mechanism.
    pub mechanisms: Vec<Compared>,
    /// What things cost in the run.
    pub costs: Costs,
}

impl Comparison {
    /// Whether every transfer arrived as it was sent.
    pub fn all_right(&self) -> bool {
        self.mechanisms.iter().flat_map(|compared| &compared.costs).all(|cost| cost.sha256_ok)
    }
}

impl Compared {
    /// Who must be trusted with the sender's data, by the attacks that succeeded.
    pub fn trusted(&self) -> Vec<&'static str> {
        let succeeded = |attack: Attack| {
            self.attacks.iter().any(|(carried, outcome)| *carried == attack && outcome.succeeded)
        };
        let mut trusted = vec!["hypervisor"];
        if succeeded(Attack::DriverDomainReads) {
            trusted.push("driver domain: it can read");
        }
        if succeeded(Attack::PassedToWrongGuest) {
            trusted.push("driver domain: it chooses who reads");
        }
        if succeeded(Attack::Overheard) {
            trusted.push("all that carries the envelope: who sees it can read");
        }
        if succeeded(Attack::Starved) {
            trusted.push("all that carries the envelope: who sees it can use it up");
        }
        trusted
    }
}

/// Compares all mechanisms.
///
/// # Errors
/// If a host could not be started or a transfer broke. An attack that succeeds is none.
pub fn compare(plan: &Plan) -> Result<Comparison, CompareError> {
    let mut mechanisms = Vec::new();
    for mechanism in Mechanism::ALL {
        let attacks = Attack::ALL
            .into_iter()
            .map(|attack| Ok((attack, carry_out(attack, mechanism)?)))
            .collect::<Result<_, CompareError>>()?;
        mechanisms.push(Compared {
            mechanism,
            costs: cost::measure(plan, mechanism)?,
            attacks,
            card: try_card(mechanism)?,
            changes: changes(mechanism),
        });
    }
    Ok(Comparison { mechanisms, costs: plan.costs })
}

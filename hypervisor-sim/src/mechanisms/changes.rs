//! What each mechanism needs changed: what this code base has of it.

use xenvelope_grant::seam::Mechanism;

/// What had to be changed where. Empty: nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Changes {
    /// In the guest that sends.
    pub sender: &'static str,
    /// In the guest that receives.
    pub receiver: &'static str,
    /// In the driver domain.
    pub driver_domain: &'static str,
    /// In the hypervisor.
    pub hypervisor: &'static str,
}

/// What a mechanism needs changed.
pub const fn changes(mechanism: Mechanism) -> Changes {
    match mechanism {
        Mechanism::Destination => Changes {
            sender: "looks its destination up in a table, grants to it, sends envelopes",
            receiver: "takes envelopes, copies, says done",
            driver_domain: "keeps a table for each guest",
            hypervisor: "",
        },
        Mechanism::Transitive => Changes {
            sender: "",
            receiver: "takes envelopes, copies, says done",
            driver_domain: "passes grants on, writes envelopes, answers after the done",
            hypervisor: "version 2 of the grant table (x86 has it, Arm has not)",
        },
        Mechanism::Keyed => Changes {
            sender: "a key for each envelope, beside each entry",
            receiver: "names the key; one operation a piece, so copies are laid out like the sender's",
            driver_domain: "keeps a table for each guest, to find the way and not to grant",
            hypervisor: "entries with keys, a key in the copy operation, revoke at first use",
        },
    }
}

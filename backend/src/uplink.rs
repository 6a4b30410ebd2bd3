//! The port towards the outside: the PF of a card with VFs, or any card's queue.

use xenvelope_switch::MacAddress;

/// What the driver domain asks of the card beside its own queue: the agent for VFs.
pub trait PfControl {
    /// Frames to `mac` in `vid` (0: none) are, or are no longer, for the PF: their guest is
    /// behind the driver domain's switch. On Linux: `bridge fdb add MAC dev PF self`.
    fn reach(&self, mac: MacAddress, vid: u16, behind_us: bool);
    /// Whether the card is known to drop frames that bear a source address that is not the VF's.
    /// If not, envelopes through it need tags.
    fn anti_spoof(&self) -> bool;
}

/// No card, or one that needs no telling.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoControl;

impl PfControl for NoControl {
    fn reach(&self, _: MacAddress, _: u16, _: bool) {}
    fn anti_spoof(&self) -> bool {
        false
    }
}

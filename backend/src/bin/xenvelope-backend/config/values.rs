//! Values that are checked where they are read, so that an error has their line.

use serde::Deserialize;
use xenvelope_switch::MacAddress;

/// A number from `MIN` to `MAX`.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(try_from = "i64")]
pub struct Within<const MIN: u16, const MAX: u16>(u16);

impl<const MIN: u16, const MAX: u16> Within<MIN, MAX> {
    /// A number of our own.
    pub const fn new_const(number: u16) -> Self {
        assert!(MIN <= number && number <= MAX);
        Within(number)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl<const MIN: u16, const MAX: u16> Default for Within<MIN, MAX> {
    fn default() -> Self {
        Within(MIN)
    }
}

impl<const MIN: u16, const MAX: u16> TryFrom<i64> for Within<MIN, MAX> {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        let within = u16::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
        within.map(Within).ok_or_else(|| format!("{number}: give a number from {MIN} to {MAX}"))
    }
}

/// An address that one interface can have.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(try_from = "String")]
pub struct Mac(pub MacAddress);

impl TryFrom<String> for Mac {
    type Error = String;
    fn try_from(text: String) -> Result<Mac, String> {
        let mac: MacAddress = text.parse().map_err(|error| format!("{text:?} is {error}"))?;
        if mac.is_multicast() {
            return Err(format!("{mac} names a group, not one interface"));
        }
        if mac.to_bits() == 0 {
            return Err(format!("no interface can have the address {mac}"));
        }
        Ok(Mac(mac))
    }
}

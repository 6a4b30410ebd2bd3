//! The configuration: `etc/guest.toml` shows every key.

use serde::Deserialize;
use xenvelope_service::interface::Interface;

/// Everything that can be set.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Number of the vif in the guest.
    pub vif: u32,
    /// The interface that is made.
    pub interface: Interface,
    /// Its MTU, if not the one that the toolstack says.
    pub mtu: Option<Mtu>,
    /// Whether its stack may hand over TCP segments that are longer than the MTU.
    pub tso: bool,
    /// Whether envelopes are offered.
    pub envelopes: bool,
    /// The VF.
    pub vf: Vf,
    /// Whether the interface stays when the agent ends.
    pub persistent: bool,
    /// Whether the vif is taken from the kernel's netfront.
    pub take_over: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vif: 0,
            interface: Interface::try_from("xenv0".to_owned()).expect("a name that Linux takes"),
            mtu: None,
            tso: true,
            envelopes: true,
            vf: Vf::Auto,
            persistent: true,
            take_over: false,
        }
    }
}

/// Bytes of the longest IP packet: 68 (RFC 791) to 65521, with an Ethernet header below 64 KiB.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(try_from = "i64")]
pub struct Mtu(u16);

impl Mtu {
    /// What everybody has.
    pub const ETHERNET: Mtu = Mtu(1500);

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<i64> for Mtu {
    type Error = String;
    fn try_from(number: i64) -> Result<Mtu, String> {
        let mtu = u16::try_from(number).ok().filter(|mtu| (68..=65521).contains(mtu));
        mtu.map(Mtu).ok_or_else(|| format!("{number}: give an MTU from 68 to 65521"))
    }
}

/// Which VF is bonded.
#[derive(Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(try_from = "String")]
pub enum Vf {
    /// The one that has the vif's address, when there is one.
    Auto,
    /// None.
    None,
    /// This one, when it is there.
    Named(Interface),
}

impl TryFrom<String> for Vf {
    type Error = String;
    fn try_from(text: String) -> Result<Vf, String> {
        match text.as_str() {
            "auto" => Ok(Vf::Auto),
            "none" => Ok(Vf::None),
            _ => Interface::try_from(text)
                .map(Vf::Named)
                .map_err(|error| format!("{error}; or say \"auto\" or \"none\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;
    use xenvelope_service::settings::from_text;

    fn read(text: &str) -> Result<Config, String> {
        let settings = from_text::<Config>(Path::new("guest.toml"), text);
        settings.map(|settings| settings.value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_says_the_defaults() {
        let example = include_str!("../../../etc/guest.toml");
        assert_eq!(read(example), Ok(Config::default()));
        // What is commented out must be right too: `#key` is a key, `# word` a comment.
        let all = example.replace("\n#mtu", "\nmtu");
        assert_eq!(read(&all), Ok(Config { mtu: Some(Mtu::ETHERNET), ..Config::default() }));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        assert_eq!(read("vf = \"none\"").map(|config| config.vf), Ok(Vf::None));
        let named = Vf::Named(Interface::try_from("eth1".to_owned()).unwrap());
        assert_eq!(read("vf = \"eth1\"").map(|config| config.vf), Ok(named));
        for (text, line, says) in [
            ("vif = -1", 1, "-1"),
            ("\nvif = \"0\"", 2, "string"),
            ("interface = \"\"", 1, "1 to 15"),
            ("interface = \"a b\"", 1, "space"),
            ("mtu = 67", 1, "68 to 65521"),
            ("\n\nmtu = 65522", 3, "68 to 65521"),
            ("vf = \"an interface\"", 1, "auto"),
            ("takeover = true", 1, "take-over"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(&format!(":{line}: ")), "{text}: {error}");
            assert!(error.contains(says) && !error.contains('\n'), "{text}: {error}");
        }
    }
}

//! `xenvelope-sim tap`: Linux itself as the guests.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::HostArguments;
use crate::measure::RouteName;

/// What the subcommand `tap` takes.
#[derive(Args, Clone, Debug)]
pub struct TapArguments {
    /// Guests, 1 to 200
    #[arg(long, value_name = "N", default_value = "2", value_parser = super::guests, allow_negative_numbers = true)]
    pub guests: u16,

    /// The host.
    #[command(flatten)]
    pub host: HostArguments,

    /// The route between guests, as in the table of routes, or auto: what the manager chooses on a
    /// real host, envelopes through the card where both have a VF, else through the switch
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub route: TapRoute,

    /// The MTU of guests, card and wire, 1280 to 9216
    #[arg(long, value_name = "BYTES", default_value = "1500", value_parser = mtu, allow_negative_numbers = true)]
    pub mtu: u16,

    /// A VLAN, 1 to 4094, whose tags guests may put on their frames; may be given more than once
    #[arg(long, value_name = "VID", value_parser = vlan, allow_negative_numbers = true)]
    pub vlan: Vec<u16>,

    /// What the namespaces' names begin with: PREFIX-a, PREFIX-b, ..., PREFIX-outside
    #[arg(long, value_name = "PREFIX", default_value = "xenvelope", value_parser = prefix)]
    pub prefix: String,

    /// Written when all is ready, with one namespace a line, and removed at the end
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// Seconds from one line of counters to the next; 0 for none but the last
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = interval, allow_negative_numbers = true)]
    pub status: Interval,

    /// Remove the namespaces that a run left behind which was killed, and do nothing else
    #[arg(long)]
    pub clean: bool,
}

/// The route between guests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TapRoute {
    /// The manager's choice.
    Auto,
    /// One of the table's.
    Named(RouteName),
}

impl TapRoute {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            TapRoute::Auto => "auto",
            TapRoute::Named(route) => route.name(),
        }
    }
}

impl FromStr for TapRoute {
    type Err = String;
    fn from_str(text: &str) -> Result<TapRoute, String> {
        if text == "auto" {
            return Ok(TapRoute::Auto);
        }
        match text.parse() {
            Ok(route @ (RouteName::External | RouteName::NicQueue)) => Err(format!(
                "the peer outside is there by every route between guests: {route} is none of them"
            )),
            Ok(route) => Ok(TapRoute::Named(route)),
            Err(unknown) => Err(format!("{unknown}, auto")),
        }
    }
}

/// From one line of counters to the next; nothing for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interval(pub Option<Duration>);

fn interval(text: &str) -> Result<Interval, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(Interval(None)),
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => {
            Ok(Interval(Some(Duration::from_secs_f64(seconds))))
        }
        _ => Err("give a time from 0.1 to 86400 seconds, or 0".to_owned()),
    }
}

fn mtu(text: &str) -> Result<u16, String> {
    let asked = text.parse().ok().filter(|mtu| (1280..=9216).contains(mtu));
    asked.ok_or_else(|| "an MTU has 1280 (the least of IPv6) to 9216 bytes".to_owned())
}

fn vlan(text: &str) -> Result<u16, String> {
    let asked = text.parse().ok().filter(|vid| (1..=4094).contains(vid));
    asked.ok_or_else(|| "a VLAN is a whole number from 1 to 4094".to_owned())
}

fn prefix(text: &str) -> Result<String, String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
    if begins && text.len() <= 64 && text.bytes().all(letter) {
        Ok(text.to_owned())
    } else {
        Err("a prefix has 1 to 64 letters, digits, dashes, dots and underscores, and begins with \
             a letter or a digit"
            .to_owned())
    }
}

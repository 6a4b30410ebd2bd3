//! What a configuration means, in words: `--check`.

use std::io::{Result, Write};

use xenvelope_service::settings::Settings;

use crate::config::{Config, Vf};

/// Says it.
pub fn print(settings: &Settings<Config>, out: &mut impl Write) -> Result<()> {
    let (config, source) = (&settings.value, &settings.source);
    writeln!(out, "{}", source.verdict())?;
    let stays = if config.persistent { "stays" } else { "goes" };
    let mtu = match config.mtu {
        Some(mtu) => format!("an MTU of {}", mtu.get()),
        None => "the MTU that the toolstack says".to_owned(),
    };
    let tso = if config.tso { "with" } else { "without" };
    writeln!(
        out,
        "Interface: {} with {mtu}, {tso} TSO; it {stays} when the agent ends.",
        config.interface
    )?;
    let owner = if config.take_over { "taken from" } else { "not taken from" };
    writeln!(out, "Vif: device/vif/{}; {owner} xen-netfront if that has it.", config.vif)?;
    match &config.vf {
        Vf::Auto => writeln!(out, "VF: the one that has the vif's address, when there is one.")?,
        Vf::None => writeln!(out, "VF: none.")?,
        Vf::Named(name) => {
            writeln!(out, "VF: {name}, when it is there and has the vif's address.")?
        }
    }
    if config.envelopes {
        writeln!(out, "Envelopes: yes, if the driver domain has them too.")
    } else {
        writeln!(out, "Envelopes: no, everything goes by netif or the VF.")
    }
}

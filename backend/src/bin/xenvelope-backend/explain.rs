//! What a configuration means, in words: `--check`.

use std::io::{Result, Write};
use std::path::Path;

use xenvelope_backend::PairRoute;
use xenvelope_service::interface::Interface;
use xenvelope_service::settings::Settings;

use crate::config::Config;

/// Says it.
pub fn print(settings: &Settings<Config>, out: &mut impl Write) -> Result<()> {
    let (config, source) = (&settings.value, &settings.source);
    writeln!(out, "{}", source.verdict())?;
    uplink(config, out)?;
    card(config, out)?;
    writeln!(
        out,
        "Guests: up to {} queues for each interface; forwarding tables of {} pages, {} addresses.",
        config.queues.get(),
        config.table_pages.get(),
        64 * config.table_pages.get()
    )?;
    writeln!(out, "Between guests: {}.", words(config.default_route_between_guests))?;
    for guest in &config.guest {
        let networks: Vec<String> = guest.networks.iter().map(u16::to_string).collect();
        let networks = match networks.len() {
            0 => "in no network, reaches no guest".to_owned(),
            _ => format!("in network {}", networks.join(", ")),
        };
        let vlan = match guest.vlan.get() {
            0 => String::new(),
            vlan => format!(", VLAN {vlan}"),
        };
        let vf =
            guest.vf.as_ref().map_or(String::new(), |vf| format!(", VF {}", vf.get_ref().get()));
        writeln!(out, "  {}: {networks}{vlan}{vf}.", guest.mac.get_ref().0)?;
    }
    for pair in &config.pair {
        let [one, other] = pair.macs();
        writeln!(out, "  {one} and {other}: {}.", words(pair.route))?;
    }
    if config.stock_drivers {
        writeln!(out, "Devices that are not ours are given to the kernel's own drivers.")
    } else {
        writeln!(
            out,
            "The kernel's own drivers are left alone: see that netback does not take our interfaces."
        )
    }
}

fn uplink(config: &Config, out: &mut impl Write) -> Result<()> {
    let uplink = &config.uplink;
    match (&uplink.tap, &uplink.interface) {
        (Some(tap), _) => {
            let mtu = uplink.mtu.map_or(1500, |mtu| mtu.get());
            writeln!(
                out,
                "Uplink: a TAP {tap} with an MTU of {mtu}; give it an address or a bridge."
            )
        }
        (None, Some(interface)) => {
            let name = interface.get_ref();
            let ears = if config.promiscuous() { ", promiscuous" } else { "" };
            writeln!(out, "Uplink: the interface {name}{ears}{}.", absent(name))
        }
        (None, None) => writeln!(out, "Uplink: none, guests reach each other only."),
    }
}

fn card(config: &Config, out: &mut impl Write) -> Result<()> {
    let Some(pf) = &config.card.pf else {
        return writeln!(out, "Card: none whose VFs we look after.");
    };
    let believed = if config.card.anti_spoof { "are believed" } else { "must prove themselves" };
    writeln!(out, "Card: {pf}{}; envelopes through it {believed}.", absent(pf))?;
    let interface = config.uplink.interface.as_ref().map(|interface| interface.get_ref());
    if interface != Some(pf) {
        writeln!(
            out,
            "  The uplink is not {pf}: guests with a VF do not reach those without one by the card."
        )?;
    }
    Ok(())
}

fn absent(interface: &Interface) -> &'static str {
    let there = Path::new("/sys/class/net").join(interface.as_str()).exists();
    if there { "" } else { " (not there now)" }
}

fn words(route: PairRoute) -> &'static str {
    match route {
        PairRoute::Auto => "the best that both sides can do",
        PairRoute::Bridge => "frames, copied by this domain",
        PairRoute::BridgeReceiverCopy => {
            "frames, copied by the receiver where a grant can be passed on, else by this domain"
        }
        PairRoute::Switch => "envelopes through this domain",
        PairRoute::Direct => "envelopes on a channel of their own",
        PairRoute::NicFrame => "frames through the card",
        PairRoute::NicEnvelope => "envelopes through the card",
    }
}

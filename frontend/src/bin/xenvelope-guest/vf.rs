//! Finds the VF: the network interface of a PCI device that has the vif's address.
//!
//! The driver domain gives the VF that address, which tells which of a guest's cards it is, and
//! makes the card's switch deliver to it what is for the vif.

use std::fs;
use std::path::{Path, PathBuf};

use xenvelope_switch::MacAddress;

use crate::config::Vf;

/// An interface that can be bonded. One that goes and comes again has another index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
}

/// Why a VF that was named is not bonded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OtherAddress {
    /// The address that it has.
    pub has: String,
}

/// Looks for interfaces below `/sys/class/net`.
pub struct Finder {
    net: PathBuf,
    /// The interface that we made.
    ours: String,
}

impl Finder {
    /// A finder below `root`, which passes `ours` by.
    pub fn new(root: &Path, ours: &str) -> Finder {
        Finder { net: root.join("sys/class/net"), ours: ours.to_owned() }
    }

    /// The VF for a vif with that address, if it is there.
    pub fn find(&self, which: &Vf, mac: MacAddress) -> Result<Option<Found>, OtherAddress> {
        match which {
            Vf::None => Ok(None),
            Vf::Named(name) => {
                let Some(found) = self.interface(name.as_str()) else { return Ok(None) };
                match self.text(name.as_str(), "address") {
                    Some(has) if has.parse() == Ok(mac) => Ok(Some(found)),
                    has => Err(OtherAddress { has: has.unwrap_or_default() }),
                }
            }
            Vf::Auto => {
                let entries = fs::read_dir(&self.net).into_iter().flatten().flatten();
                let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
                let mut fit: Vec<String> = names
                    .filter(|name| *name != self.ours && self.is_pci(name))
                    .filter(|name| {
                        self.text(name, "address").is_some_and(|has| has.parse() == Ok(mac))
                    })
                    .collect();
                // If there are two, always the same one.
                fit.sort();
                Ok(fit.first().and_then(|name| self.interface(name)))
            }
        }
    }

    /// Whether an interface that was found is still there.
    pub fn is_there(&self, found: &Found) -> bool {
        self.interface(&found.name).as_ref() == Some(found)
    }

    fn interface(&self, name: &str) -> Option<Found> {
        let index = self.text(name, "ifindex")?.parse().ok()?;
        Some(Found { name: name.to_owned(), index })
    }

    /// A bond, a bridge or a VLAN on a VF has its address too, and netfront's has the vif's.
    fn is_pci(&self, name: &str) -> bool {
        let subsystem = fs::read_link(self.net.join(name).join("device/subsystem"));
        subsystem.is_ok_and(|path| path.file_name().is_some_and(|name| name == "pci"))
    }

    fn text(&self, name: &str, attribute: &str) -> Option<String> {
        let text = fs::read_to_string(self.net.join(name).join(attribute)).ok()?;
        Some(text.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::symlink;
    use xenvelope_service::interface::Interface;

    const MAC: MacAddress = MacAddress([0, 0x16, 0x3e, 0, 0, 1]);

    struct Sys(PathBuf);

    impl Sys {
        fn new(name: &str) -> Sys {
            let path = format!("xenvelope-net-{name}-{}", std::process::id());
            let sys = Sys(std::env::temp_dir().join(path));
            let _ = fs::remove_dir_all(&sys.0);
            fs::create_dir_all(sys.0.join("sys/class/net")).expect("a directory can be made");
            sys
        }

        fn add(&self, name: &str, index: u32, address: &str, bus: Option<&str>) {
            let path = self.0.join("sys/class/net").join(name);
            fs::create_dir_all(&path).expect("a directory can be made");
            fs::write(path.join("ifindex"), format!("{index}\n")).expect("it can be written");
            fs::write(path.join("address"), format!("{address}\n")).expect("it can be written");
            if let Some(bus) = bus {
                fs::create_dir_all(path.join("device")).expect("a directory can be made");
                symlink(format!("../../../bus/{bus}"), path.join("device/subsystem"))
                    .expect("a link can be made");
            }
        }

        fn remove(&self, name: &str) {
            fs::remove_dir_all(self.0.join("sys/class/net").join(name)).expect("it was added");
        }

        fn finder(&self) -> Finder {
            Finder::new(&self.0, "xenv0")
        }
    }

    impl Drop for Sys {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn found(name: &str, index: u32) -> Result<Option<Found>, OtherAddress> {
        Ok(Some(Found { name: name.to_owned(), index }))
    }

    #[test]
    fn only_a_card_with_the_address_is_taken() {
        let sys = Sys::new("auto");
        sys.add("xenv0", 5, "00:16:3e:00:00:01", None);
        sys.add("eth0", 2, "00:16:3e:00:00:01", Some("xen"));
        sys.add("eth1", 3, "00:16:3e:00:00:02", Some("pci"));
        sys.add("bond0", 9, "00:16:3e:00:00:01", None);
        sys.add("lo", 1, "", None);
        assert_eq!(sys.finder().find(&Vf::Auto, MAC), Ok(None));
        sys.add("eth3", 7, "00:16:3E:00:00:01", Some("pci"));
        sys.add("eth2", 6, "00:16:3e:00:00:01", Some("pci"));
        assert_eq!(sys.finder().find(&Vf::Auto, MAC), found("eth2", 6));
        assert_eq!(sys.finder().find(&Vf::None, MAC), Ok(None));
    }

    #[test]
    fn one_that_comes_again_is_another() {
        let sys = Sys::new("again");
        sys.add("eth1", 3, "00:16:3e:00:00:01", Some("pci"));
        let vf = sys.finder().find(&Vf::Auto, MAC).expect("no name").expect("it is there");
        assert!(sys.finder().is_there(&vf));
        sys.remove("eth1");
        assert!(!sys.finder().is_there(&vf));
        sys.add("eth1", 4, "00:16:3e:00:00:01", Some("pci"));
        assert!(!sys.finder().is_there(&vf));
        assert_eq!(sys.finder().find(&Vf::Auto, MAC), found("eth1", 4));
    }

    #[test]
    fn one_that_was_named_must_have_the_address() {
        let sys = Sys::new("named");
        let name = Vf::Named(Interface::try_from("eth1".to_owned()).expect("a name"));
        assert_eq!(sys.finder().find(&name, MAC), Ok(None));
        sys.add("eth1", 3, "00:16:3e:00:00:02", Some("pci"));
        let other = OtherAddress { has: "00:16:3e:00:00:02".to_owned() };
        assert_eq!(sys.finder().find(&name, MAC), Err(other));
        sys.add("eth1", 3, "00:16:3e:00:00:01", None);
        assert_eq!(sys.finder().find(&name, MAC), found("eth1", 3));
    }

    #[test]
    fn without_any_interface_there_is_none() {
        let finder = Finder::new(Path::new("/nonexistent"), "xenv0");
        assert_eq!(finder.find(&Vf::Auto, MAC), Ok(None));
    }
}

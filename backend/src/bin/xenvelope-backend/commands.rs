//! Commands of iproute2 that set the card up. There is no smaller interface to it that all
//! drivers have.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;
use xenvelope_switch::MacAddress;

/// Carries out a command: what it printed, or what went wrong.
pub trait Runner {
    /// Runs `program` with `arguments`.
    fn run(&mut self, program: &str, arguments: &[&str]) -> Result<String, String>;
}

/// Runs it as a process.
pub struct Processes;

impl Runner for Processes {
    fn run(&mut self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{error}; is iproute2 installed?"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = stderr.trim().replace('\n', "; ");
        Err(if said.is_empty() { output.status.to_string() } else { said })
    }
}

/// The card's PF.
pub struct Pf<R> {
    interface: String,
    /// The card is to drop what bears a source address that is not the VF's.
    spoof_check: bool,
    runner: R,
}

impl<R: Runner> Pf<R> {
    /// The PF with that interface.
    pub fn new(interface: &str, spoof_check: bool, runner: R) -> Pf<R> {
        Pf { interface: interface.to_owned(), spoof_check, runner }
    }

    /// Sets the PF up and gives VFs their addresses: the PF must be up before VFs leave reset,
    /// and the addresses set before guests start. Whether all of it was done.
    pub fn set_up(&mut self, vfs: &BTreeMap<u16, MacAddress>) -> bool {
        let interface = self.interface.clone();
        let mut done = self.command("ip", &["link", "set", "dev", &interface, "up"], &[]);
        let present = self.present();
        for (vf, mac) in vfs {
            // Some drivers reset a VF whose address is set, be it the same: a guest may use it.
            let same = present.get(vf).is_some_and(|(address, checked)| {
                address == mac && (*checked || !self.spoof_check)
            });
            if same {
                continue;
            }
            let (vf, mac) = (vf.to_string(), mac.to_string());
            let set = ["link", "set", "dev", &interface, "vf", &vf];
            done &= self.command("ip", &[&set[..], &["mac", &mac]].concat(), &[]);
            if self.spoof_check {
                done &= self.command("ip", &[&set[..], &["spoofchk", "on"]].concat(), &[]);
            }
        }
        done
    }

    /// Tells the card that frames to `mac` are for the PF, or no longer.
    pub fn reach(&mut self, mac: MacAddress, behind_us: bool) {
        let (interface, mac) = (self.interface.clone(), mac.to_string());
        // Already so: by an earlier life of this program, or since nothing was ever said.
        let (verb, fine) = if behind_us { ("add", "File exists") } else { ("del", "No such file") };
        self.command("bridge", &["fdb", verb, &mac, "dev", &interface, "self"], &[fine]);
    }

    /// The VFs' addresses and whether sources are checked, if the command says.
    fn present(&mut self) -> BTreeMap<u16, (MacAddress, bool)> {
        let arguments = ["-json", "link", "show", "dev", &self.interface];
        let Ok(text) = self.runner.run("ip", &arguments) else {
            return BTreeMap::new();
        };
        let parsed: Value = serde_json::from_str(&text).unwrap_or_default();
        let list = parsed[0]["vfinfo_list"].as_array();
        let entries = list.into_iter().flatten().filter_map(|vf| {
            let number = u16::try_from(vf["vf"].as_u64()?).ok()?;
            // Older versions say `mac`.
            let address = vf["address"].as_str().or(vf["mac"].as_str())?.parse().ok()?;
            Some((number, (address, vf["spoofchk"].as_bool().unwrap_or(false))))
        });
        entries.collect()
    }

    fn command(&mut self, program: &str, arguments: &[&str], fine: &[&str]) -> bool {
        let line = format!("{program} {}", arguments.join(" "));
        match self.runner.run(program, arguments) {
            Ok(_) => tracing::debug!(command = line, "done"),
            Err(said) if fine.iter().any(|word| said.contains(word)) => {
                tracing::debug!(command = line, said, "was so already");
            }
            Err(said) => {
                tracing::error!(command = line, said, "the card was not set up as it should be");
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes commands and answers from a list.
    #[derive(Default)]
    struct Script {
        seen: Vec<String>,
        link: String,
        fails: Option<&'static str>,
    }

    impl Runner for &mut Script {
        fn run(&mut self, program: &str, arguments: &[&str]) -> Result<String, String> {
            if arguments.contains(&"-json") {
                return Ok(self.link.clone());
            }
            self.seen.push(format!("{program} {}", arguments.join(" ")));
            self.fails.map_or(Ok(String::new()), |said| Err(said.to_owned()))
        }
    }

    const ONE: MacAddress = MacAddress([0, 0x16, 0x3e, 0, 0, 1]);
    const TWO: MacAddress = MacAddress([0, 0x16, 0x3e, 0, 0, 2]);

    #[test]
    fn a_vf_that_has_its_address_is_left_alone() {
        let link = r#"[{"ifname":"eth0","vfinfo_list":[
            {"vf":0,"link_type":"ether","address":"00:16:3e:00:00:01","spoofchk":true},
            {"vf":1,"link_type":"ether","address":"00:00:00:00:00:00","spoofchk":true}]}]"#;
        let mut script = Script { link: link.to_owned(), ..Script::default() };
        let vfs = BTreeMap::from([(0, ONE), (1, TWO)]);
        assert!(Pf::new("eth0", true, &mut script).set_up(&vfs));
        assert_eq!(
            script.seen,
            [
                "ip link set dev eth0 up",
                "ip link set dev eth0 vf 1 mac 00:16:3e:00:00:02",
                "ip link set dev eth0 vf 1 spoofchk on",
            ]
        );
    }

    #[test]
    fn an_answer_that_makes_no_sense_sets_all() {
        for link in ["", "[]", "{", "[{\"vfinfo_list\":[{\"vf\":-1}, 3]}]"] {
            let mut script = Script { link: link.to_owned(), ..Script::default() };
            assert!(Pf::new("eth0", false, &mut script).set_up(&BTreeMap::from([(0, ONE)])));
            assert_eq!(script.seen[1..], ["ip link set dev eth0 vf 0 mac 00:16:3e:00:00:01"]);
        }
    }

    #[test]
    fn a_failure_is_told() {
        let mut script = Script { fails: Some("Operation not supported"), ..Script::default() };
        assert!(!Pf::new("eth0", false, &mut script).set_up(&BTreeMap::from([(0, ONE)])));
        script.seen.clear();
        let mut pf = Pf::new("eth0", false, &mut script);
        pf.reach(ONE, true);
        pf.reach(ONE, false);
        assert_eq!(
            script.seen,
            [
                "bridge fdb add 00:16:3e:00:00:01 dev eth0 self",
                "bridge fdb del 00:16:3e:00:00:01 dev eth0 self",
            ]
        );
    }
}

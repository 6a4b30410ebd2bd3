//! A stock netback beside us.
//!
//! Linux gives a device of a bus to the first driver that takes it, and netback takes every vif.
//! So the bus probes nothing by itself (`drivers_autoprobe`), and what is not ours is handed to
//! the kernel's drivers one by one (`drivers_probe`): vifs with another script, disks,
//! everything. A driver whose module comes later does not look for devices either: what found
//! none is handed over again, less and less often.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xenvelope_grant::seam::StoreError;

/// The name of our hotplug script, as `script=` has it.
pub const SCRIPT: &str = "vif-xenvelope";
/// The bus of the devices that this domain serves.
pub const BUS: &str = "/sys/bus/xen-backend";

/// After the first failure it is tried again after this long, then twice as long, and so on.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Up to this long.
const RETRY_LAST: Duration = Duration::from_secs(10);

/// The devices of the bus.
pub struct StockDrivers {
    bus: PathBuf,
    known: BTreeMap<Device, Known>,
}

/// A device: its name, and the number of its directory. One that is removed and made again under
/// the same name between two looks is another.
type Device = (String, u64);

/// What is known of a device.
enum Known {
    /// It is ours, and stays so: its script does not change.
    Ours,
    /// A driver has it.
    Bound,
    /// To be handed over.
    Waiting { next: Instant, pause: Duration },
}

/// What a look at the bus found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// Devices came or went, or one was handed over.
    pub changed: bool,
    /// Some device waits for a driver.
    pub waiting: bool,
}

/// Reads the hotplug script of a vif: `None` if it has none.
pub trait Scripts {
    /// Of the device `backend/vif/DOMID/HANDLE`.
    fn script(&mut self, domid: u16, handle: u32) -> Result<Option<String>, StoreError>;
}

impl StockDrivers {
    /// Takes the bus over: from now on it probes nothing by itself.
    pub fn take_over(bus: &Path) -> io::Result<StockDrivers> {
        std::fs::write(bus.join("drivers_autoprobe"), "0")?;
        Ok(StockDrivers { bus: bus.to_path_buf(), known: BTreeMap::new() })
    }

    /// Looks at all devices, and hands over what is not ours and has no driver.
    pub fn look(&mut self, now: Instant, scripts: &mut impl Scripts) -> Look {
        let mut look = Look::default();
        let devices = match self.devices() {
            Ok(devices) => devices,
            Err(error) => {
                tracing::warn!(bus = %self.bus.display(), %error, "cannot list devices");
                return look;
            }
        };
        let before = self.known.len();
        self.known.retain(|device, _| devices.contains(device));
        look.changed = self.known.len() != before;
        for device in devices {
            let name = device.0.as_str();
            look.changed |= !self.known.contains_key(&device);
            let bound = self.driver(name);
            match self.known.get(&device) {
                Some(Known::Ours) => continue,
                Some(Known::Bound) if bound.is_some() => continue,
                Some(Known::Waiting { next, .. }) if bound.is_none() && *next > now => {
                    look.waiting = true;
                    continue;
                }
                _ => {}
            }
            match is_ours(name, scripts) {
                // The store will say another time.
                Err(error) => {
                    tracing::debug!(device = name, %error, "whose it is cannot be found out");
                    look.waiting = true;
                    continue;
                }
                Ok(true) => {
                    if let Some(driver) = bound {
                        tracing::error!(
                            device = name,
                            driver,
                            "a driver of the kernel has an interface of ours: detach it and attach \
                             it again (xl network-detach, xl network-attach)"
                        );
                    }
                    self.known.insert(device, Known::Ours);
                }
                Ok(false) if bound.is_some() => {
                    self.known.insert(device, Known::Bound);
                }
                Ok(false) => {
                    look.changed |= self.hand_over(device, now);
                    look.waiting = true;
                }
            }
        }
        look
    }

    /// Has the kernel look for a driver. Whether it found one.
    fn hand_over(&mut self, device: Device, now: Instant) -> bool {
        let name = device.0.as_str();
        let pause = match self.known.get(&device) {
            Some(Known::Waiting { pause, .. }) => (*pause * 2).min(RETRY_LAST),
            _ => RETRY_FIRST,
        };
        if let Err(error) = std::fs::write(self.bus.join("drivers_probe"), name) {
            tracing::debug!(device = name, %error, "the kernel does not take it");
        }
        let driver = self.driver(name);
        match &driver {
            Some(driver) => {
                tracing::info!(device = name, driver, "given to the kernel's driver");
                self.known.insert(device, Known::Bound);
            }
            None => {
                if pause == RETRY_LAST {
                    tracing::debug!(device = name, "no driver of the kernel takes it");
                }
                self.known.insert(device, Known::Waiting { next: now + pause, pause });
            }
        }
        driver.is_some()
    }

    fn devices(&self) -> io::Result<Vec<Device>> {
        let entries = std::fs::read_dir(self.bus.join("devices"))?;
        // One that goes away while we look is not there.
        let device = |entry: std::fs::DirEntry| {
            let number = std::fs::metadata(entry.path()).ok()?.ino();
            Some((entry.file_name().into_string().ok()?, number))
        };
        Ok(entries.flatten().filter_map(device).collect())
    }

    /// The driver that has a device.
    fn driver(&self, name: &str) -> Option<String> {
        let link = std::fs::read_link(self.bus.join("devices").join(name).join("driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }
}

/// Whether a device is for us to serve.
fn is_ours(name: &str, scripts: &mut impl Scripts) -> Result<bool, StoreError> {
    let Some((domid, handle)) = vif(name) else {
        return Ok(false);
    };
    let script = scripts.script(domid, handle)?;
    Ok(script.is_some_and(|path| path.rsplit('/').next() == Some(SCRIPT)))
}

/// The domid and handle of `vif-DOMID-HANDLE`.
fn vif(name: &str) -> Option<(u16, u32)> {
    let (domid, handle) = name.strip_prefix("vif-")?.split_once('-')?;
    Some((domid.parse().ok()?, handle.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::os::unix::fs::symlink;

    struct Fake(BTreeMap<(u16, u32), Result<Option<&'static str>, StoreError>>);

    impl Scripts for Fake {
        fn script(&mut self, domid: u16, handle: u32) -> Result<Option<String>, StoreError> {
            let found = self.0.get(&(domid, handle)).copied().unwrap_or(Ok(None))?;
            Ok(found.map(str::to_owned))
        }
    }

    /// A bus with devices, none of which has a driver.
    fn bus(name: &str, devices: &[&str]) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("xenvelope-bus-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        for device in devices {
            fs::create_dir_all(path.join("devices").join(device)).expect("a directory can be made");
        }
        fs::create_dir_all(path.join("devices")).expect("a directory can be made");
        fs::write(path.join("drivers_autoprobe"), "1").expect("a file can be written");
        path
    }

    /// What was written last to `drivers_probe`, once.
    fn probed(bus: &Path) -> Option<String> {
        let path = bus.join("drivers_probe");
        let text = fs::read_to_string(&path).ok();
        let _ = fs::remove_file(path);
        text
    }

    fn bind(bus: &Path, device: &str) {
        symlink("../../drivers/vif", bus.join("devices").join(device).join("driver"))
            .expect("a link can be made");
    }

    #[test]
    fn ours_is_left_and_others_are_handed_over() {
        for (device, script, taken) in [
            ("vif-1-0", Ok(Some("/etc/xen/scripts/vif-xenvelope")), false),
            ("vif-1-0", Ok(Some("vif-xenvelope")), false),
            ("vif-1-0", Ok(Some("/etc/xen/scripts/vif-bridge")), true),
            ("vif-1-0", Ok(Some("/etc/xen/scripts/vif-xenvelope/")), true),
            ("vif-1-0", Ok(None), true),
            ("vif-1-0", Err(StoreError::Unreachable), false),
            ("vbd-1-51712", Ok(None), true),
            ("vif-x-0", Ok(Some("vif-xenvelope")), true),
        ] {
            let path = bus("whose", &[device]);
            let mut drivers = StockDrivers::take_over(&path).expect("the bus is there");
            let autoprobe = fs::read_to_string(path.join("drivers_autoprobe"));
            assert_eq!(autoprobe.expect("it was written"), "0");
            let mut scripts = Fake(BTreeMap::from([((1, 0), script)]));
            assert!(drivers.look(Instant::now(), &mut scripts).changed);
            let expected = taken.then(|| device.to_owned());
            assert_eq!(probed(&path), expected, "{device} {script:?}");
            fs::remove_dir_all(path).expect("it was made here");
        }
    }

    #[test]
    fn what_no_driver_took_is_tried_again_less_and_less_often() {
        let path = bus("again", &["vif-3-0"]);
        let mut drivers = StockDrivers::take_over(&path).expect("the bus is there");
        let mut scripts = Fake(BTreeMap::new());
        let mut now = Instant::now();
        let mut tries = 0;
        for _ in 0..600 {
            assert!(drivers.look(now, &mut scripts).waiting);
            tries += usize::from(probed(&path).is_some());
            now += Duration::from_millis(100);
        }
        // 0.1, 0.2, ... 6.4 and then every 10 s: within a minute 12 times.
        assert!((10..14).contains(&tries), "{tries}");
        bind(&path, "vif-3-0");
        drivers.look(now + RETRY_LAST, &mut scripts);
        let quiet = drivers.look(now + RETRY_LAST * 2, &mut scripts);
        assert_eq!((quiet, probed(&path)), (Look::default(), None));
        // Unbound by a person, or gone and made again under the same name.
        fs::remove_file(path.join("devices/vif-3-0/driver")).expect("it is there");
        drivers.look(now, &mut scripts);
        assert_eq!(probed(&path).as_deref(), Some("vif-3-0"));
        fs::remove_dir(path.join("devices/vif-3-0")).expect("it is there");
        assert!(drivers.look(now, &mut scripts).changed);
        fs::remove_dir_all(path).expect("it was made here");
    }

    #[test]
    fn a_domid_that_is_used_again_is_looked_at_again() {
        let path = bus("domid", &["vif-4-0"]);
        let mut drivers = StockDrivers::take_over(&path).expect("the bus is there");
        let mut scripts = Fake(BTreeMap::from([((4, 0), Ok(Some("vif-xenvelope")))]));
        drivers.look(Instant::now(), &mut scripts);
        assert_eq!(probed(&path), None);
        fs::remove_dir(path.join("devices/vif-4-0")).expect("it is there");
        drivers.look(Instant::now(), &mut scripts);
        fs::create_dir(path.join("devices/vif-4-0")).expect("a directory can be made");
        scripts.0.insert((4, 0), Ok(Some("vif-bridge")));
        drivers.look(Instant::now(), &mut scripts);
        assert_eq!(probed(&path).as_deref(), Some("vif-4-0"));
        fs::remove_dir_all(path).expect("it was made here");
    }
}

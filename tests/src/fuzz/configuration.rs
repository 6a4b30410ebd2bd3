//! Configuration files.

use std::path::Path;

use xenvelope_service::settings::{SettingsError, from_text};

/// The driver domain's process. Its configuration is no part of a library.
#[allow(dead_code, reason = "only reading is fuzzed, not what is done with what was read")]
#[path = "../../../backend/src/bin/xenvelope-backend"]
mod backend {
    pub mod config;
}

/// The guest's agent.
#[allow(dead_code, reason = "as above")]
#[path = "../../../frontend/src/bin/xenvelope-guest"]
mod guest {
    pub mod config;
}

/// A refusal names the file and a line that is there, on one line.
fn check_refusal(error: &SettingsError, text: &str) {
    let SettingsError::Wrong { line, message, .. } = error else {
        panic!("a text is not a file that cannot be read: {error}")
    };
    assert!(*line >= 1 && *line <= text.split('\n').count(), "{error}");
    assert!(!message.is_empty() && !message.contains('\n'), "{error}");
}

/// `backend.toml`: it is refused with a line, or makes sense as a whole.
pub fn backend_configuration(data: &[u8]) {
    use self::backend::config::Config;
    let text = String::from_utf8_lossy(data);
    let read = from_text::<Config>(Path::new("backend.toml"), &text);
    match read.and_then(|read| read.value.check(&read.source).map(|()| read.value)) {
        Err(error) => check_refusal(&error, &text),
        Ok(config) => {
            let with_vf = config.guest.iter().filter(|guest| guest.vf.is_some()).count();
            assert_eq!(config.vfs().len(), with_vf, "a VF for each that asks for one");
            assert!(config.pair.iter().all(|pair| pair.macs()[0] != pair.macs()[1]));
            let _ = (config.uplink.name(), config.promiscuous());
        }
    }
}

/// `guest.toml`: the same.
pub fn guest_configuration(data: &[u8]) {
    use self::guest::config::Config;
    let text = String::from_utf8_lossy(data);
    match from_text::<Config>(Path::new("guest.toml"), &text) {
        Err(error) => check_refusal(&error, &text),
        Ok(read) => {
            let mtu = read.value.mtu.map_or(1500, |mtu| mtu.get());
            assert!((68..=65521).contains(&mtu));
            assert!((1..=15).contains(&read.value.interface.as_str().len()));
        }
    }
}

//! The hotplug script, run by every shell that is here, with a store that is a directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A store for `xenstore-read`, `-write` and `-rm` in a directory, and a process that runs.
struct Lab {
    directory: PathBuf,
    tries: &'static str,
    shell: &'static [&'static str],
}

const VIF: &str = "/local/domain/0/backend/vif/7/0";

impl Lab {
    fn new(name: &str, tries: &'static str, shell: &'static [&'static str]) -> Lab {
        let unique = format!("hotplug-{name}-{}-{}", shell.join("-"), std::process::id());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique.replace('/', "_"));
        let _ = fs::remove_dir_all(&directory);
        let lab = Lab { directory, tries, shell };
        fs::create_dir_all(lab.path("bin")).expect("cargo's directory for tests can be written");
        lab.tool("xenstore-read", "cat \"$STORE$1\" 2>/dev/null");
        lab.tool(
            "xenstore-write",
            "[ -e \"$STORE/refuses\" ] && exit 1\n\
             while [ $# -gt 0 ]; do\n\
             mkdir -p \"$STORE${1%/*}\"; echo \"$2\" >\"$STORE$1\"; shift 2\ndone",
        );
        lab.tool("xenstore-rm", "rm \"$STORE$1\"");
        lab.tool("logger", "echo \"$@\" >>\"$STORE/log\"");
        // A second in the script is shorter here, but for a shell that has it built in.
        lab.tool("sleep", "exec /bin/sleep 0.2");
        lab.set(&format!("{VIF}/state"), "2");
        fs::write(lab.path("lock"), format!("{}\n", std::process::id()))
            .expect("it can be written");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn tool(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("it can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    fn set(&self, key: &str, value: &str) {
        let path = self.directory.join(format!("store{key}"));
        fs::create_dir_all(path.parent().expect("a key has a directory")).expect("it can be made");
        fs::write(path, format!("{value}\n")).expect("it can be written");
    }

    fn get(&self, key: &str) -> Option<String> {
        let text = fs::read_to_string(self.directory.join(format!("store{VIF}/{key}"))).ok()?;
        Some(text.trim_end().to_owned())
    }

    fn call(&self, arguments: &[&str], path: Option<&str>) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/vif-xenvelope");
        let mut command = Command::new(self.shell[0]);
        command.args(&self.shell[1..]).arg(script).args(arguments);
        let tools = format!("{}:/usr/bin:/bin", self.path("bin").display());
        command.env("XENVELOPE_PATH", tools).env("XENVELOPE_LOCK", self.path("lock"));
        command.env("XENVELOPE_TRIES", self.tries).env("STORE", self.path("store"));
        command.env_remove("XENBUS_PATH").env_remove("type_if");
        if let Some(path) = path {
            command.env("XENBUS_PATH", path).env("vif", "vif7.0");
        }
        command.output().expect("the shell can be started")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Does it with every shell that this machine has.
fn with_shells(name: &str, tries: &'static str, test: impl Fn(&Lab)) {
    let shells: [&'static [&'static str]; 3] =
        [&["/bin/sh"], &["/bin/bash", "--posix"], &["/bin/busybox", "sh"]];
    for shell in shells {
        if Path::new(shell[0]).exists() {
            test(&Lab::new(name, tries, shell));
        }
    }
}

#[test]
fn online_connects_what_the_backend_has_taken() {
    with_shells("online", "1", |lab| {
        for arguments in [&["online"][..], &["online", "type_if=vif"], &["type_if=vif", "add"]] {
            let output = lab.call(arguments, Some(VIF));
            assert!(output.status.success(), "{:?} {output:?}", lab.shell);
            assert_eq!(lab.get("hotplug-status").as_deref(), Some("connected"));
            assert_eq!(lab.get("hotplug-error"), None);
            let output = lab.call(&["offline", "type_if=vif"], Some(VIF));
            assert!(output.status.success(), "{:?} {output:?}", lab.shell);
            assert_eq!(lab.get("hotplug-status"), None);
        }
        // Again, when nothing is left to remove.
        assert!(lab.call(&["offline"], Some(VIF)).status.success());
    });
}

#[test]
fn without_the_backend_it_says_so() {
    with_shells("dead", "1", |lab| {
        // No process has so high an id.
        for lock in [Some("999999999\n"), Some(""), Some("x\n"), None] {
            let path = lab.path("lock");
            match lock {
                Some(text) => fs::write(path, text).expect("it can be written"),
                None => fs::remove_file(path).expect("it was written"),
            }
            let output = lab.call(&["online"], Some(VIF));
            assert_eq!(output.status.code(), Some(1), "{:?} {lock:?} {output:?}", lab.shell);
            assert_eq!(lab.get("hotplug-status").as_deref(), Some("error"));
            let error = lab.get("hotplug-error").unwrap_or_default();
            assert!(error.contains("not running") && error.contains("start it"), "{error}");
        }
    });
}

#[test]
fn an_interface_that_the_backend_has_not_taken_is_waited_for() {
    with_shells("late", "4", |lab| {
        lab.set(&format!("{VIF}/state"), "1");
        let output = lab.call(&["online"], Some(VIF));
        assert_eq!(output.status.code(), Some(1));
        let error = lab.get("hotplug-error").unwrap_or_default();
        assert!(error.contains("not taken") && error.contains('1'), "{error}");
        // It comes while the script waits.
        let state = lab.path(&format!("store{VIF}/state"));
        let late = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            fs::write(state, "2\n").expect("it can be written");
        });
        assert!(lab.call(&["online"], Some(VIF)).status.success());
        assert_eq!(lab.get("hotplug-status").as_deref(), Some("connected"));
        assert_eq!(lab.get("hotplug-error"), None);
        late.join().expect("it has written");
    });
}

#[test]
fn what_libxl_would_not_say_is_refused() {
    with_shells("wrong", "1", |lab| {
        for (arguments, path) in
            [(&["online"][..], None), (&[], Some(VIF)), (&["up"], Some(VIF)), (&["a=b"], Some(VIF))]
        {
            let output = lab.call(arguments, path);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        }
        lab.set("/refuses", "");
        assert_eq!(lab.call(&["online"], Some(VIF)).status.code(), Some(1));
    });
}

#[test]
fn the_emulated_card_is_left_alone() {
    with_shells("emulated", "1", |lab| {
        for command in ["add", "remove"] {
            assert!(lab.call(&[command, "type_if=tap"], Some(VIF)).status.success());
            assert_eq!(lab.get("hotplug-status"), None);
        }
    });
}

#[test]
fn nothing_in_an_argument_is_run() {
    with_shells("argument", "1", |lab| {
        let mark = lab.path("mark");
        let touch = format!("x=$(touch {0})`touch {0}`;touch {0}", mark.display());
        lab.call(&[&touch, "online", &format!("type_if=$(touch {})", mark.display())], Some(VIF));
        assert!(!mark.exists(), "{:?}", lab.shell);
    });
}

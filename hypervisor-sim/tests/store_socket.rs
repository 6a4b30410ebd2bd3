//! The store's socket, used by programs that know nothing of the simulator: our own client of
//! xenstore, Debian's tools, and the library xenstore-rs (with the feature of that name).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{Change, Store, StoreError};
use xenvelope_hypervisor_sim::machine::{Costs, Domain, Machine};
use xenvelope_hypervisor_sim::store_server::StoreServer;
use xenvelope_xen::linux::store::XenStore;

/// How long something may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

struct Served {
    dom0: Domain,
    one: Domain,
    server: StoreServer,
    _machine: Arc<Machine>,
}

fn socket(test: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("xenvelope-{}-{test}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn serve(test: &str) -> Served {
    let machine = Machine::new(Costs::ideal());
    let [dom0, one] = ["dom0", "one"].map(|name| machine.create_domain(name, 4));
    let server = StoreServer::start(&machine, &socket(test)).expect("a path of our own");
    Served { dom0, one, server, _machine: machine }
}

impl Served {
    fn client(&self) -> XenStore {
        XenStore::open_at(self.server.path(), PATIENCE).expect("somebody listens")
    }
}

fn read(store: &impl Store, path: &str) -> Result<String, StoreError> {
    store.read(path, &mut [0; 4096]).map(str::to_owned)
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn our_client_reads_writes_and_watches_as_with_xenstored() {
    let served = serve("client");
    let client = served.client();
    assert_eq!(client.domid(), Ok(DomId::DOM0));
    assert_eq!(read(&client, "/local/domain/1/name").as_deref(), Ok("one"));
    assert_eq!(client.list("/local/domain", &mut [0; 64]), Ok("0\x001"));
    client.watch("/local/domain/1/data", 5).expect("a watch");
    let next = || {
        wait_for("an event", || {
            let mut out = [0; 256];
            client.next(&mut out).map(|event| (event.token, event.path.to_owned()))
        })
    };
    assert_eq!(next(), (5, "/local/domain/1/data".to_owned()));
    let change = Change::Write { path: "data/key", value: "v", reader: None };
    served.one.commit(&[change]).expect("its own");
    assert_eq!(next(), (5, "/local/domain/1/data/key".to_owned()));
    let changes = [
        Change::Write { path: "/x/for-one", value: "1", reader: Some(DomId(1)) },
        Change::Write { path: "/x/for-nobody", value: "2", reader: None },
        Change::Remove { path: "/local/domain/1/data" },
    ];
    client.commit(&changes).expect("all of it");
    assert_eq!(next(), (5, "/local/domain/1/data".to_owned()));
    assert_eq!(read(&served.one, "/x/for-one").as_deref(), Ok("1"));
    assert_eq!(read(&served.one, "/x/for-nobody"), Err(StoreError::NoPermission));
    assert_eq!(read(&served.one, "data/key"), Err(StoreError::NoEntry));
    assert!(client.is_alive());
}

#[test]
fn a_list_of_a_thousand_names_comes_whole() {
    let served = serve("long-list");
    let mut names: Vec<_> = (0..1000).map(|n| format!("name-{n}")).collect();
    for name in &names {
        let path = format!("/many/{name}");
        served
            .dom0
            .commit(&[Change::Write { path: &path, value: "", reader: None }])
            .expect("ours");
    }
    names.sort();
    let mut out = vec![0; 1 << 16];
    assert_eq!(served.client().list("/many", &mut out), Ok(names.join("\0").as_str()));
}

#[test]
fn commits_of_many_at_once_are_each_whole() {
    let served = serve("commits");
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let path = served.server.path().to_owned();
            std::thread::spawn(move || {
                let client = XenStore::open_at(&path, PATIENCE).expect("somebody listens");
                let value = writer.to_string();
                let pair = ["/pair/left", "/pair/right"].map(|path| Change::Write {
                    path,
                    value: &value,
                    reader: None,
                });
                let mut done = 0;
                while done < 100 {
                    match client.commit(&pair) {
                        Ok(()) => done += 1,
                        // Others were quicker sixteen times.
                        Err(StoreError::Unreachable) if client.is_alive() => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    let writing = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // All of the tree at one moment, as the machine sees it.
            let mut looks = 0;
            while writing.load(Relaxed) || looks < 10 {
                let tree = served.dom0.machine().store_tree();
                let value = |key: &str| {
                    tree.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned)
                };
                assert_eq!(value("/pair/left"), value("/pair/right"), "{tree}");
                looks += 1;
            }
        });
        for writer in writers {
            writer.join().expect("no panic");
        }
        writing.store(false, Relaxed);
    });
    assert!(read(&served.dom0, "/pair/left").is_ok());
}

/// One of Debian's tools.
fn tool(socket: &Path, name: &str, arguments: &[&str]) -> Output {
    Command::new(name)
        .args(arguments)
        .env("XENSTORED_PATH", socket)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Whether there are tools to test with. Their absence is a failure on CI.
fn has_tools() -> bool {
    let found = Command::new("xenstore-ls").arg("--help").output().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "install xenstore-utils");
        eprintln!("!!!! SKIPPED: xenstore-ls and its like are not installed (xenstore-utils)");
    }
    found
}

#[test]
fn debians_tools_read_write_and_set_permissions() {
    if !has_tools() {
        return;
    }
    let served = serve("tools");
    let path = served.server.path();
    let said = |name: &str, arguments: &[&str]| {
        let output = tool(path, name, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name} {arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    };
    let fails = |name: &str, arguments: &[&str]| {
        let output = tool(path, name, arguments);
        assert!(!output.status.success(), "{name} {arguments:?} did not fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(said("xenstore-read", &["/local/domain/1/name"]), "one\n");
    assert_eq!(said("xenstore-list", &["/local/domain"]), "0\n1\n");
    said("xenstore-write", &["/tool/x", "first", "/tool/y/z", "second"]);
    assert_eq!(read(&served.dom0, "/tool/y/z").as_deref(), Ok("second"));
    said("xenstore-exists", &["/tool/x"]);
    fails("xenstore-exists", &["/tool/none"]);
    let complaint = fails("xenstore-read", &["/tool/none"]);
    assert!(complaint.contains("couldn't read path /tool/none"), "{complaint}");
    said("xenstore-chmod", &["/tool/x", "n0", "r1"]);
    assert_eq!(read(&served.one, "/tool/x").as_deref(), Ok("first"));
    let listed = said("xenstore-ls", &["-f", "-p", "/tool"]);
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(
        lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect::<Vec<_>>(),
        [
            vec!["/tool/x", "=", "\"first\"", "(n0,r1)"],
            vec!["/tool/y", "=", "\"\"", "(n0)"],
            vec!["/tool/y/z", "=", "\"second\"", "(n0)"],
        ]
    );
    said("xenstore-rm", &["/tool/y"]);
    assert_eq!(read(&served.dom0, "/tool/y"), Err(StoreError::NoEntry));
    let all = said("xenstore-ls", &[]);
    assert!(all.contains("name = \"one\""), "{all}");
}

#[test]
fn debians_watch_tells_of_what_the_domains_write() {
    if !has_tools() {
        return;
    }
    let served = serve("tool-watch");
    let mut watching = Command::new("xenstore-watch")
        .args(["-n", "2", "/local/domain/1/data"])
        .env("XENSTORED_PATH", served.server.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool");
    let mut lines = BufReader::new(watching.stdout.take().expect("a pipe")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert_eq!(first, "/local/domain/1/data");
    let change = Change::Write { path: "data/key", value: "v", reader: None };
    served.one.commit(&[change]).expect("its own");
    let second = lines.next().expect("a line").expect("text");
    assert_eq!(second, "/local/domain/1/data/key");
    assert!(watching.wait().expect("it ends").success());
}

#[test]
fn the_program_serves_the_store_of_its_host_while_it_runs() {
    let path = socket("program");
    let text = path.to_str().expect("a plain path");
    let program = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_xenvelope-sim"));
        program.args(["--json", "--guests", "3", "--frame", "1500", "--route", "switch-envelope"]);
        program.args(["--seconds", "2", "--store", text]);
        program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    };
    let running = program().spawn().expect("the program");
    let client = wait_for("the socket", || XenStore::open_at(&path, PATIENCE).ok());
    let guests = wait_for("the guests", || {
        let mut out = [0; 4096];
        let names = client.list("/local/domain", &mut out).ok()?.split('\0').count();
        (names > 3).then_some(names)
    });
    assert!(guests >= 5, "the driver domain, three guests, the stock one");
    let second = program().output().expect("the program");
    assert_eq!(second.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&second.stderr);
    assert!(complaint.contains("in use by another program"), "{complaint}");
    assert!(second.stdout.is_empty());
    let output = running.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!path.exists(), "the socket is left behind");
}

/// The library takes the socket from the environment, which a test may not change: it is in a
/// process of its own.
#[cfg(feature = "xenstore-rs")]
mod library {
    use super::{Command, PATIENCE, read, serve};
    use xenvelope_grant::seam::Store;
    use xenvelope_xen::linux::store::XenStore;

    const NAME: &str = "library::reads_what_the_variable_names";

    #[test]
    fn xenstore_rs_reads_and_lists() {
        let served = serve("library");
        let own = std::env::current_exe().expect("this program");
        let output = Command::new(own)
            .args(["--exact", NAME, "--ignored"])
            .env("XENSTORED_PATH", served.server.path())
            .output()
            .expect("this program");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "run by the one above, with a socket"]
    fn reads_what_the_variable_names() {
        let path = std::env::var_os("XENSTORED_PATH").expect("named by who runs this");
        // With the feature, what it can do is done by the library.
        let store = XenStore::open().expect("somebody listens");
        assert_eq!(read(&store, "/local/domain/1/name").as_deref(), Ok("one"));
        assert_eq!(store.list("/local/domain", &mut [0; 64]), Ok("0\x001"));
        let plain = XenStore::open_at(path.as_ref(), PATIENCE).expect("somebody listens");
        assert_eq!(read(&plain, "/local/domain/1/name").as_deref(), Ok("one"));
    }
}

//! Two domains in two processes that share the simulator's memory: what one does to the other's
//! memory the other sees, above all that a page is in use.
//!
//! Without the usual harness: a process is divided here, and may have one thread only.

use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};
use xenvelope_grant::seam::{
    Access, Buffer as _, Copier as _, CopyOp, End, Events as _, Granter as _, Host as _,
    Share as _, Shared as _,
};
use xenvelope_grant::{Status, Words as _};
use xenvelope_hypervisor_sim::machine::{Backing, Costs, Domain, DomainOptions, Machine};
use xenvelope_hypervisor_sim::processes::in_child;

/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_secs(30);
/// Words of the page by which the two talk: what the child has come to, what it is told.
const CHILD_AT: usize = 0;
const TOLD_AT: usize = 4;

/// Two domains, and a page of the first that both have.
struct Scene {
    owner: Domain,
    user: Domain,
}

impl Scene {
    fn new() -> Scene {
        let machine = Machine::new(Costs::ideal());
        let backing = Backing { shared: true, huge: false };
        let create = |name: &str| {
            let options = DomainOptions { backing, ..DomainOptions::new(name, 256) };
            machine.create(&options).expect("a domain")
        };
        Scene { owner: create("owner"), user: create("user") }
    }

    /// Runs `child` beside `parent`, with a page of the first domain's that both see.
    fn divide(
        self,
        child: impl Fn(&Scene, &dyn Fn(u32), &dyn Fn(u32)),
        parent: impl FnOnce(&Scene, &dyn Fn(u32), &dyn Fn(u32)),
    ) {
        let page = self.owner.export(self.user.domid(), 1, Access::Write).expect("a page");
        let seen = self.user.import(self.owner.domid(), page.refs(), Access::Write).expect("it");
        let process = in_child(|| {
            let say = |what| store(&seen, CHILD_AT, what);
            let wait = |what| wait_for(&seen, TOLD_AT, what);
            child(&self, &say, &wait);
        });
        let process = process.expect("a process");
        parent(&self, &|what| store(&page, TOLD_AT, what), &|what| wait_for(&page, CHILD_AT, what));
        let ended = waitpid(process, None).expect("the child ends");
        assert_eq!(ended, WaitStatus::Exited(process, 0));
    }
}

fn store(page: &impl xenvelope_grant::HasWords, at: usize, what: u32) {
    page.words().store_u32(at, what, std::sync::atomic::Ordering::Release);
}

fn wait_for(page: &impl xenvelope_grant::HasWords, at: usize, what: u32) {
    let end = Instant::now() + PATIENCE;
    while page.words().load_u32(at, std::sync::atomic::Ordering::Acquire) != what {
        assert!(Instant::now() < end, "the other process did not come to {what}");
        std::thread::yield_now();
    }
}

fn page_of(domain: &Domain, text: &[u8]) -> xenvelope_hypervisor_sim::machine::FrameBuffer {
    let mut buffer = domain.take(None, 4096).expect("a page");
    buffer.stack_bytes_mut()[..text.len()].copy_from_slice(text);
    buffer
}

/// The user maps a page in its process; in the owner's a revoke fails until it lets go.
fn a_revoke_sees_a_mapping_of_another_process() {
    let scene = Scene::new();
    let page = scene.owner.export(scene.user.domid(), 1, Access::Read).expect("a page");
    let refs = page.refs().to_vec();
    let page = std::cell::Cell::new(Some(page));
    scene.divide(
        |scene, say, wait| {
            let mapped = scene.user.import(scene.owner.domid(), &refs, Access::Read);
            let mapped = mapped.expect("it is granted");
            say(1);
            wait(1);
            drop(mapped);
            say(2);
        },
        |scene, say, wait| {
            wait(1);
            let page = page.take().expect("the page");
            let pinned = scene.owner.unexport(page).expect_err("the other process has it mapped");
            say(1);
            wait(2);
            scene.owner.unexport(pinned.0).expect("nobody has it mapped any more");
        },
    );
}

/// The user copies without pause in its process; a revoke in the owner's that comes during a copy
/// fails, and once one has succeeded the user gets nothing more.
fn a_revoke_sees_a_copy_under_way_in_another_process() {
    let scene = Scene::new();
    let buffer = page_of(&scene.owner, &[7; 4096]);
    let out = scene.owner.grant(buffer, scene.user.peer(), 0..4096, Access::Read).expect("a grant");
    let gref = scene.owner.segments(&out)[0].gref;
    let out = std::cell::Cell::new(Some(out));
    scene.divide(
        |scene, say, _| {
            let mut target = [scene.user.take(None, 4096).expect("a page")];
            let source = End::Foreign { dom: scene.owner.domid(), gref, offset: 0 };
            let end = Instant::now() + PATIENCE;
            let mut copied = 0u64;
            loop {
                assert!(Instant::now() < end, "it was never revoked");
                // Many in one call: nearly all of its time a copy is under way.
                let op = CopyOp::new(source, End::Local { buffer: 0, offset: 0 }, 4096);
                let mut ops = [op; 64];
                scene.user.copy(&mut ops, &mut target).expect("the call");
                let good = ops.iter().filter(|op| op.status == Status::OKAY).count();
                copied += good as u64;
                if copied > 0 {
                    assert!(target[0].stack_bytes().iter().all(|byte| *byte == 7));
                    say(1);
                }
                // After the first that is refused none succeeds: it is not granted again.
                let refused = ops.iter().position(|op| op.status != Status::OKAY);
                if let Some(first) = refused {
                    assert!(ops[first..].iter().all(|op| op.status != Status::OKAY));
                    return;
                }
            }
        },
        |scene, _, wait| {
            wait(1);
            let mut out = out.take().expect("the grant");
            let mut failed = 0u64;
            loop {
                match scene.owner.recycle(out) {
                    Ok(buffer) => {
                        println!("  {failed} revokes met a copy");
                        drop(buffer);
                        return;
                    }
                    // A revoke that fails leaves the entry invalid for new users or valid again:
                    // either way it is tried until it succeeds, as a frontend does.
                    Err(pinned) => {
                        failed += 1;
                        out = pinned.0;
                    }
                }
            }
        },
    );
}

/// An event of one process ends the sleep of the other, whichever comes first.
fn an_event_wakes_the_other_process() {
    let scene = Scene::new();
    let listening = scene.owner.listen(scene.user.domid()).expect("a port");
    let number = scene.owner.id(&listening).0;
    let port = scene.user.connect(scene.owner.domid(), number).expect("the other end");
    scene.divide(
        |scene, say, wait| {
            for round in 1..=100 {
                wait(round);
                scene.user.notify(&port);
            }
            say(1);
        },
        |scene, say, wait| {
            let mut fired = [xenvelope_grant::seam::PortId(0); 4];
            for round in 1..=100 {
                say(round);
                let until = xenvelope_grant::seam::Instant(
                    scene.owner.now().0 + PATIENCE.as_nanos() as u64,
                );
                let count = scene.owner.wait(&mut fired, until);
                assert_eq!((count, fired[0].0), (1, number), "event {round}");
                scene.owner.unmask(&listening);
            }
            wait(1);
        },
    );
}

fn main() {
    let tests: [(&str, fn()); 3] = [
        ("a_revoke_sees_a_mapping_of_another_process", a_revoke_sees_a_mapping_of_another_process),
        (
            "a_revoke_sees_a_copy_under_way_in_another_process",
            a_revoke_sees_a_copy_under_way_in_another_process,
        ),
        ("an_event_wakes_the_other_process", an_event_wakes_the_other_process),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
}

//! Entries that bear a key, between their owner and the hypervisor, model checked: a key leads to
//! what was granted with it, once, and to nothing after a revoke that succeeded.
//!
//! No Xen has these entries; the simulator does. The hypervisor's side is `acquire_keyed`.
//!
//! **Bounds.** Two threads, one entry that is granted twice, one use, pages of 8 bytes; all
//! executions, with any number of preemptions. Two users beside the owner: three threads, at most
//! 3 preemptions.

use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;
use xenvelope_tests::loom_domain::{Domain, Kind, PAGE, REF, page};
use xenvelope_tests::loom_words::{Weakness, caught, check};

const KINDS: [Kind; 2] = [Kind::V2, Kind::V2SubPage];
const OLD: [u8; PAGE] = [0x11; PAGE];
const NEW: [u8; PAGE] = [0x22; PAGE];
const OTHER: [u8; PAGE] = [0x33; PAGE];
const KEY: u64 = 0x1111_1111_1111_1111;
const OTHER_KEY: u64 = 0x2222_2222_2222_2222;
const LEAK: &str = "not the bytes that were granted";

/// What a model runs with.
#[derive(Clone, Copy, Default)]
struct Weak {
    owner: Weakness,
    hypervisor: Weakness,
    keys: Weakness,
}

/// The owner sends a page, takes it back without a done, writes something else into it, and uses
/// the entry for another page and key. Who has the first key gets the first bytes or nothing.
fn send_and_grant_again(kind: Kind, weak: Weak) {
    let domain = Domain::new(kind);
    let mut hypervisor = domain.hypervisor_with_keys(weak.hypervisor, weak.keys);
    let owner = domain.owner(weak.owner);
    let receiver = thread::spawn(move || {
        let _ = hypervisor.copy_keyed(KEY, |pages, extent| {
            assert_eq!(extent, kind.seen(1), "{LEAK}");
            assert_eq!(page(pages, 1), OLD, "{LEAK}");
        });
    });
    owner.write(1, OLD);
    owner.write(2, OTHER);
    owner.grant_keyed(1, KEY);
    if owner.table.revoke(REF).is_ok() {
        owner.write(1, NEW);
        owner.grant_keyed(2, OTHER_KEY);
    }
    receiver.join().expect("the copy ends");
    assert_eq!(owner.table.revoke(REF), Ok(()), "a use that has ended leaves no bits behind");
}

#[test]
fn a_key_leads_to_what_was_granted_with_it_or_to_nothing() {
    for kind in KINDS {
        check(None, move || send_and_grant_again(kind, Weak::default()));
    }
}

#[test]
fn a_key_is_good_for_one_copy_whoever_comes_first() {
    check(3, || {
        let domain = Domain::new(Kind::V2SubPage);
        let owner = domain.owner(Weakness::None);
        owner.write(1, OLD);
        owner.grant_keyed(1, KEY);
        // The lock of the entry, which the hypervisor holds while it decides.
        let hypervisor = Arc::new(Mutex::new(domain.hypervisor(Weakness::None)));
        let users = [(); 2].map(|()| {
            let hypervisor = Arc::clone(&hypervisor);
            thread::spawn(move || {
                let mut hypervisor = hypervisor.lock().expect("loom's locks are not poisoned");
                hypervisor.copy_keyed(KEY, |pages, _| assert_eq!(page(pages, 1), OLD)).is_ok()
            })
        });
        let revoked = owner.table.revoke(REF).is_ok();
        let copies = users.map(|user| usize::from(user.join().expect("the copy ends")));
        let copies: usize = copies.into_iter().sum();
        assert!(copies <= 1, "{copies} copies with one key");
        assert!(revoked || owner.table.revoke(REF).is_ok(), "a use that has ended leaves bits");
    });
}

#[test]
fn a_grant_with_a_key_without_release_is_caught() {
    for kind in KINDS {
        let weak = Weak { owner: Weakness::ReleaseRelaxed(0), ..Weak::default() };
        caught(None, LEAK, move || send_and_grant_again(kind, weak));
    }
}

#[test]
fn a_hypervisor_that_does_not_look_at_the_key_again_is_caught() {
    for kind in KINDS {
        let weak = Weak { keys: Weakness::LooksOnce(0), ..Weak::default() };
        caught(None, LEAK, move || send_and_grant_again(kind, weak));
    }
}

#[test]
fn a_hypervisor_that_takes_the_flags_away_without_acquire_is_caught() {
    for kind in KINDS {
        let weak = Weak { hypervisor: Weakness::ExchangeRelaxed, ..Weak::default() };
        caught(None, LEAK, move || send_and_grant_again(kind, weak));
    }
}

#[test]
fn a_revoke_or_a_use_without_a_full_barrier_is_caught() {
    for kind in KINDS {
        let owner = Weak { owner: Weakness::NoFullBarrier, ..Weak::default() };
        caught(None, LEAK, move || send_and_grant_again(kind, owner));
        let hypervisor = Weak { hypervisor: Weakness::NoFullBarrier, ..Weak::default() };
        caught(None, LEAK, move || send_and_grant_again(kind, hypervisor));
    }
}

//! A grant entry between its owner and the hypervisor, model checked: after a revoke that
//! succeeded nobody is in the page, and nobody gets in.
//!
//! The owner's side is `xenvelope_grant::table`, the hypervisor's is `GrantCheck` of the
//! simulator, which does what Xen does.
//!
//! **Bounds.** Two threads, one entry, one use, pages of 8 bytes; all executions, with any number
//! of preemptions. Versions 1 and 2, full pages and sub-pages. Two entries, each used once by the
//! same thread, where both are taken back at once.

use std::sync::atomic::Ordering::Relaxed;

use loom::thread;
use xenvelope_grant::seam::Access;
use xenvelope_grant::{Gref, Words};
use xenvelope_tests::loom_domain::{Domain, KINDS, Kind, OTHER, PAGE, PEER, REF, STRANGER, page};
use xenvelope_tests::loom_words::{Weakness, caught, check};

const OLD: [u8; PAGE] = [0x11; PAGE];
const NEW: [u8; PAGE] = [0x22; PAGE];
const LEAK: &str = "not the bytes that were granted";

/// The owner sends a page and wants it back without a done, to use it for something else.
fn send(kind: Kind, owner: Weakness, hypervisor: Weakness) {
    let domain = Domain::new(kind);
    let mut hypervisor = domain.hypervisor(hypervisor);
    let owner = domain.owner(owner);
    let receiver = thread::spawn(move || {
        // It fails, or sees what was granted and nothing else.
        let _ = hypervisor.copy(Access::Read, |pages, extent| {
            assert_eq!(extent, kind.seen(1), "{LEAK}");
            assert_eq!(page(pages, 1), OLD, "{LEAK}");
        });
    });
    owner.write(1, OLD);
    owner.grant(1, PEER, Access::Read);
    if owner.table.revoke(REF).is_ok() {
        owner.write(1, NEW);
    }
    receiver.join().expect("the copy ends");
    assert_eq!(owner.table.revoke(REF), Ok(()), "a use that has ended leaves no bits behind");
}

/// The owner sends two pages and wants both back without a done: with one barrier, and then uses
/// each for something else that nobody is in. The peer copies them in that order.
fn send_two(kind: Kind, used: [Gref; 2], owner: Weakness, hypervisor: Weakness) {
    const SENT: [(Gref, u64); 2] = [(REF, 1), (OTHER, 2)];
    let domain = Domain::new(kind);
    let mut hypervisor = domain.hypervisor(hypervisor);
    let owner = domain.owner(owner);
    for (gref, frame) in SENT {
        owner.write(frame, OLD);
        owner.grant_as(gref, frame, PEER, Access::Read);
    }
    let receiver = thread::spawn(move || {
        for gref in used {
            let frame = if gref == REF { SENT[0].1 } else { SENT[1].1 };
            let _ = hypervisor.copy_from(gref, Access::Read, |pages, extent| {
                assert_eq!(extent, kind.seen(frame), "{LEAK}");
                assert_eq!(page(pages, frame), OLD, "{LEAK}");
            });
        }
    });
    owner.table.end(SENT.map(|sent| sent.0));
    for (gref, frame) in SENT {
        if owner.table.ended(gref).is_ok() {
            owner.write(frame, NEW);
        }
    }
    receiver.join().expect("the copies end");
    for (gref, _) in SENT {
        assert_eq!(owner.table.ended(gref), Ok(()), "a use that has ended leaves no bits behind");
    }
}

/// The owner lets a backend write a page, takes it back and reads it.
fn receive(kind: Kind, owner: Weakness, hypervisor: Weakness) {
    let domain = Domain::new(kind);
    let mut hypervisor = domain.hypervisor(hypervisor);
    let owner = domain.owner(owner);
    owner.write(1, OLD);
    owner.grant(1, PEER, Access::Write);
    let sender = thread::spawn(move || {
        hypervisor.copy(Access::Write, |pages, _| pages.copy_in(PAGE, &NEW)).is_ok()
    });
    let found = owner.table.revoke(REF).is_ok().then(|| owner.read(1));
    let written = sender.join().expect("the copy ends");
    if let Some(found) = found {
        assert_eq!(found, if written { NEW } else { OLD }, "{LEAK}");
    }
}

/// The owner takes an entry back and grants it to somebody else, for another page. The reference
/// that `PEER` still has leads to nothing of that.
fn grant_again(kind: Kind, owner: Weakness, hypervisor: Weakness) {
    let domain = Domain::new(kind);
    let mut hypervisor = domain.hypervisor(hypervisor);
    let owner = domain.owner(owner);
    owner.grant(1, PEER, Access::Read);
    let late = thread::spawn(move || {
        let _ = hypervisor.copy(Access::Read, |_, extent| {
            assert_eq!(extent, kind.seen(1), "{LEAK}");
        });
    });
    if owner.table.revoke(REF).is_ok() {
        owner.grant(2, STRANGER, Access::Read);
    }
    late.join().expect("the copy ends");
}

#[test]
fn a_copy_sees_only_what_was_granted_or_fails() {
    for kind in KINDS {
        check(None, move || send(kind, Weakness::None, Weakness::None));
    }
}

#[test]
fn copies_see_only_what_was_granted_of_pages_that_are_taken_back_at_once() {
    for kind in KINDS {
        for used in [[REF, OTHER], [OTHER, REF]] {
            check(None, move || send_two(kind, used, Weakness::None, Weakness::None));
        }
    }
}

#[test]
fn pages_that_are_taken_back_at_once_without_a_barrier_are_caught() {
    for kind in [Kind::V2, Kind::V2SubPage] {
        let used = [OTHER, REF];
        caught(None, LEAK, move || send_two(kind, used, Weakness::NoFullBarrier, Weakness::None));
        caught(None, LEAK, move || send_two(kind, used, Weakness::None, Weakness::NoFullBarrier));
    }
}

#[test]
fn what_a_user_wrote_is_visible_after_the_revoke() {
    for kind in KINDS {
        check(None, move || receive(kind, Weakness::None, Weakness::None));
    }
}

#[test]
fn an_old_reference_does_not_lead_to_what_another_domain_was_granted() {
    for kind in KINDS {
        check(None, move || grant_again(kind, Weakness::None, Weakness::None));
    }
}

#[test]
fn a_revoke_fails_while_a_copy_is_under_way() {
    for kind in KINDS {
        check(None, move || {
            let domain = Domain::new(kind);
            let mut hypervisor = domain.hypervisor(Weakness::None);
            let owner = domain.owner(Weakness::None);
            owner.grant(1, PEER, Access::Read);
            let copied = hypervisor.copy(Access::Read, |_, _| {
                assert!(owner.table.revoke(REF).is_err() && owner.table.in_use(REF));
            });
            assert_eq!(copied, Ok(()));
            assert_eq!(owner.table.revoke(REF), Ok(()));
            let flags = domain.entries().load_u16(0, Relaxed);
            assert_eq!(flags, 0, "nothing of the entry is left");
        });
    }
}

#[test]
fn a_grant_without_release_is_caught() {
    for kind in KINDS {
        caught(None, LEAK, move || send(kind, Weakness::ReleaseRelaxed(0), Weakness::None));
    }
}

#[test]
fn a_hypervisor_that_looks_at_the_flags_without_acquire_is_caught() {
    // The second look is the one that needs it: an entry that was granted again in between. In
    // version 1 the compare-exchange acquires.
    for kind in [Kind::V2, Kind::V2SubPage] {
        caught(None, LEAK, move || grant_again(kind, Weakness::None, Weakness::AcquireRelaxed(0)));
    }
}

#[test]
fn a_hypervisor_that_does_not_look_again_is_caught() {
    // In version 2 at the flags, after it has set the status. In version 1 at the domid, after it
    // has exchanged the flags.
    for kind in [Kind::V2, Kind::V2SubPage] {
        let weak = Weakness::LooksOnce(0);
        caught(None, LEAK, move || send(kind, Weakness::None, weak));
        caught(None, LEAK, move || grant_again(kind, Weakness::None, weak));
    }
    let weak = Weakness::LooksOnce(2);
    caught(None, LEAK, move || grant_again(Kind::V1, Weakness::None, weak));
}

#[test]
fn a_version_2_revoke_without_a_full_barrier_is_caught() {
    for kind in [Kind::V2, Kind::V2SubPage] {
        caught(None, LEAK, move || send(kind, Weakness::NoFullBarrier, Weakness::None));
    }
}

#[test]
fn a_hypervisor_that_sets_the_status_without_a_full_barrier_is_caught() {
    for kind in [Kind::V2, Kind::V2SubPage] {
        caught(None, LEAK, move || send(kind, Weakness::None, Weakness::NoFullBarrier));
    }
}

#[test]
fn a_version_2_use_that_ends_without_release_or_acquire_is_caught() {
    for kind in [Kind::V2, Kind::V2SubPage] {
        caught(None, LEAK, move || receive(kind, Weakness::None, Weakness::ReleaseRelaxed(0)));
        caught(None, LEAK, move || receive(kind, Weakness::AcquireRelaxed(0), Weakness::None));
    }
}

#[test]
fn version_1_exchanges_without_ordering_are_caught() {
    let weak = Weakness::ExchangeRelaxed;
    // The owner's acquires what a writer has left, the hypervisor's releases it.
    caught(None, LEAK, move || receive(Kind::V1, weak, Weakness::None));
    caught(None, LEAK, move || receive(Kind::V1, Weakness::None, weak));
    // The hypervisor's also makes the second look at the domid see the entry that it pinned.
    caught(None, LEAK, move || grant_again(Kind::V1, Weakness::None, weak));
}

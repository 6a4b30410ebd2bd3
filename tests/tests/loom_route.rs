//! Routes that change under a sender, model checked.
//!
//! **Grant against table.** A sender looks up, grants and looks again, while the manager takes the
//! entry out. When the removal is over, either the hypervisor sees the grant (and the sender, who
//! kept it, finds it when it goes through its grants), or the sender has missed the entry and
//! takes the grant back. What cannot be is a grant made unseen after the removal.
//!
//! **Order.** A flow leaves netif for a channel as soon as the driver domain says that its frames
//! lie in the receiver's ring. The receiver reads the channel's index, then netif's, and takes
//! netif's frames first (`xenvelope_frontend::receive`): the frame that went the old way is taken
//! before the one that went the new way.
//!
//! **Bounds.** Grant against table: two threads, one bucket, one entry of the grant table of
//! version 1 or 2, all executions. Order: three threads (sender, driver domain, receiver), a frame
//! on each way, rings of two slots of 8 bytes, three polls, at most 3 preemptions.

use loom::thread;
use xenvelope_grant::Peer;
use xenvelope_grant::seam::Access;
use xenvelope_switch::MacAddress;
use xenvelope_switch::table::{Entry, EntryFlags, TableReader, TableWriter};
use xenvelope_tests::loom_domain::{Domain, KINDS, Kind, PEER, REF};
use xenvelope_tests::loom_ring::{LAYOUT, LoomBack, ring};
use xenvelope_tests::loom_words::{LoomMemory, LoomWords, Weakness, caught, check};

const BUCKETS_AT: usize = 128;
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const THERE: Peer = Peer { domid: PEER, incarnation: 1 };
const UNSEEN: &str = "granted unseen after the removal";
const OVERTAKEN: &str = "a frame was overtaken";

/// The sender grants to whom it looked up, and looks again.
fn grant_against_removal(kind: Kind, writer: Weakness, reader: Weakness) {
    let memory = LoomMemory::new()
        .with_u32(0..8)
        .with_u64(8..24)
        .with_u32(24..32)
        .with_u64(32..BUCKETS_AT + 128)
        .share();
    let mut writer = TableWriter::new(LoomWords::weakened(&memory, writer), 1, 1).expect("room");
    let reader = TableReader::attach(LoomWords::weakened(&memory, reader)).expect("a table");
    let (vid, channel, flags) = (0, 2, EntryFlags::ENVELOPE);
    writer.insert(Entry { mac: MAC, vid, peer: THERE, channel, flags }).expect("room");
    let domain = Domain::new(kind);
    let (owner, hypervisor) = (domain.owner(Weakness::None), domain.hypervisor(Weakness::None));
    let sender = thread::spawn(move || {
        let Some(entry) = reader.lookup(MAC, vid) else { return false };
        owner.grant(1, entry.peer.domid, Access::Read);
        let kept = reader.still_leads_to(entry.peer, MAC, vid);
        assert!(kept || owner.table.revoke(REF).is_ok(), "nobody uses it");
        kept
    });
    writer.remove(MAC, vid);
    let seen = hypervisor.permits_peer();
    let kept = sender.join().expect("the sender ends");
    assert!(seen || !kept, "{UNSEEN}");
    assert_eq!(hypervisor.permits_peer(), kept, "what is not kept is taken back");
}

/// What the model of a change of route runs with.
#[derive(Clone, Copy, Default)]
struct Switch {
    /// The sender's side of the channel.
    sender: Weakness,
    /// The driver domain's side of the receiver's netif ring.
    driver: Weakness,
    /// The receiver's side of the channel.
    receiver: Weakness,
    /// The receiver reads netif's index before the channel's.
    netif_first: bool,
    /// The driver domain answers before it has passed the frame on.
    answers_first: bool,
}

/// Frame 1 goes by netif, frame 2 by a direct channel when netif has drained.
fn switch_route(switch: Switch) {
    let (mut to_driver, mut from_sender) = ring(0, Weakness::None, Weakness::None);
    let (mut to_receiver, mut netif) = ring(0, switch.driver, Weakness::None);
    let (mut channel, mut from_channel) = ring(0, switch.sender, switch.receiver);
    to_driver.push(&[1, 1]).expect("a free slot");
    let _ = to_driver.publish();

    let driver = thread::spawn(move || {
        let frame = from_sender.pop();
        let mut answer = || {
            from_sender.push(&[0, 0]).expect("a request to answer");
            let _ = from_sender.publish();
        };
        if switch.answers_first {
            answer();
        }
        to_receiver.push(&frame).expect("a free slot");
        let _ = to_receiver.publish();
        if !switch.answers_first {
            answer();
        }
    });
    let sender = thread::spawn(move || {
        // It looks once: as long as netif has not drained, the frame is held back.
        if to_driver.pending() == Ok(1) {
            channel.push(&[2, 2]).expect("a free slot");
            let _ = channel.publish();
        }
    });
    let mut taken = Vec::new();
    let mut poll = |netif: &mut LoomBack, from_channel: &mut LoomBack| {
        let from_netif = switch.netif_first.then(|| netif.pending());
        let by_channel = from_channel.pending().expect("a good index");
        let by_netif = from_netif.unwrap_or_else(|| netif.pending()).expect("a good index");
        for (ring, count) in [(netif, by_netif), (from_channel, by_channel)] {
            for _ in 0..count {
                taken.push(ring.pop()[0]);
            }
        }
    };
    poll(&mut netif, &mut from_channel);
    poll(&mut netif, &mut from_channel);
    driver.join().expect("the driver domain ends");
    sender.join().expect("the sender ends");
    poll(&mut netif, &mut from_channel);
    assert!(taken == [1] || taken == [1, 2], "{OVERTAKEN}: {taken:?}");
}

#[test]
fn a_grant_is_seen_by_who_took_the_entry_out_or_is_taken_back() {
    for kind in KINDS {
        check(None, move || grant_against_removal(kind, Weakness::None, Weakness::None));
    }
}

#[test]
fn a_flow_that_leaves_netif_for_a_channel_keeps_its_order() {
    check(3, || switch_route(Switch::default()));
}

#[test]
fn a_removal_without_a_full_barrier_is_caught() {
    for kind in KINDS {
        let weak = Weakness::NoFullBarrier;
        caught(None, UNSEEN, move || grant_against_removal(kind, weak, Weakness::None));
    }
}

#[test]
fn a_second_look_without_a_full_barrier_is_caught() {
    for kind in KINDS {
        let weak = Weakness::NoFullBarrier;
        caught(None, UNSEEN, move || grant_against_removal(kind, Weakness::None, weak));
    }
}

#[test]
fn a_sender_that_does_not_look_again_is_caught() {
    for kind in KINDS {
        // The address's word of one of the slots: that of the entry.
        let weak = Weakness::LooksOnce(BUCKETS_AT);
        caught(None, UNSEEN, move || grant_against_removal(kind, Weakness::None, weak));
    }
}

#[test]
fn a_receiver_that_reads_netifs_index_first_is_caught() {
    let wrong = Switch { netif_first: true, ..Switch::default() };
    caught(3, OVERTAKEN, move || switch_route(wrong));
}

#[test]
fn a_driver_domain_that_answers_before_it_passes_on_is_caught() {
    let wrong = Switch { answers_first: true, ..Switch::default() };
    caught(3, OVERTAKEN, move || switch_route(wrong));
}

#[test]
fn a_channels_index_without_release_or_acquire_is_caught() {
    let sender = Switch { sender: Weakness::ReleaseRelaxed(LAYOUT.req_prod), ..Switch::default() };
    // The barrier before the look at the event index comes after the store: it does not help.
    caught(3, OVERTAKEN, move || switch_route(sender));
    let receiver =
        Switch { receiver: Weakness::AcquireRelaxed(LAYOUT.req_prod), ..Switch::default() };
    caught(3, OVERTAKEN, move || switch_route(receiver));
}

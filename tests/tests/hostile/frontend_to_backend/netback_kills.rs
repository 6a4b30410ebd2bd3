//! What Linux' netback closes an interface for (`xenvif_fatal_tx_err`), beside an index that runs
//! ahead: each of these was an advisory's way in at some time.

use xenvelope_grant::Gref;
use xenvelope_grant::netif::{EXTRA_MORE, EXTRA_TYPE_GSO, ExtraInfo, TxFlags, TxRequest};
use xenvelope_tests::lab::{Bystanders, RawGuest, frame, mac};

/// A guest does that, and is closed; nobody else is harmed, and nothing of it is kept.
fn is_closed_for(what: &str, act: impl FnOnce(&mut RawGuest, Gref)) {
    let (mut lab, others) = Bystanders::with_lab();
    let mut guest = RawGuest::connect(&mut lab, mac(9));
    let mut page = frame(mac(0), mac(9), &[7; 1000]);
    page.resize(4096, 7);
    let gref = guest.page(&page);
    act(&mut guest, gref);
    guest.publish();
    let cost = lab.step_counted();
    assert!(guest.is_closed(), "{what}");
    assert_eq!(others.closed(&lab), 1, "{what}");
    assert_eq!(cost.copy_ops, 0, "{what}: nothing is fetched");
    assert_eq!(lab.mapped_from(guest.domid()), 0, "{what}");
    lab.steps(2);
    assert!(lab.guests[0].take_received().is_empty(), "{what}");
    others.unharmed(&mut lab);
}

fn first(gref: Gref, flags: TxFlags) -> TxRequest {
    TxRequest { gref: gref.0, offset: 0, flags: flags.bits(), id: 0, size: 1000 }
}

#[test]
fn a_chain_that_goes_beyond_what_was_published() {
    is_closed_for("more data", |guest, gref| {
        guest.push(first(gref, TxFlags::MORE_DATA));
        // What would end it stands in the ring, and may change at any time.
        guest.write_ahead(TxRequest { gref: gref.0, offset: 1000, flags: 0, id: 1, size: 100 });
    });
}

#[test]
fn an_extra_info_that_is_missing() {
    is_closed_for("extra info", |guest, gref| guest.push(first(gref, TxFlags::EXTRA_INFO)));
}

#[test]
fn an_extra_info_that_nobody_knows() {
    // Multicast and hash infos belong to features that are not offered.
    for kind in [0, 2, 3, 4, 5, 255] {
        is_closed_for("a kind", |guest, gref| {
            guest.push(first(gref, TxFlags::EXTRA_INFO));
            guest.push_extra(ExtraInfo { kind, gso_size: 1, gso_type: 1, ..ExtraInfo::default() });
        });
    }
}

#[test]
fn gso_without_a_size_or_of_a_kind_that_is_not() {
    for (gso_size, gso_type) in [(0, 1), (1448, 0), (1448, 3), (1448, 255)] {
        is_closed_for("GSO", |guest, gref| {
            guest.push(first(gref, TxFlags::EXTRA_INFO));
            let kind = EXTRA_TYPE_GSO;
            guest.push_extra(ExtraInfo { kind, gso_size, gso_type, ..ExtraInfo::default() });
        });
    }
}

#[test]
fn extra_infos_without_end() {
    is_closed_for("extra infos", |guest, gref| {
        guest.push(first(gref, TxFlags::EXTRA_INFO));
        let (kind, flags) = (EXTRA_TYPE_GSO, EXTRA_MORE);
        for index in 0..100 {
            let flags = if index == 99 { 0 } else { flags };
            guest.push_extra(ExtraInfo {
                kind,
                flags,
                gso_size: 1448,
                gso_type: 1,
                ..ExtraInfo::default()
            });
        }
    });
}

#[test]
fn a_first_fragment_that_leaves_its_page() {
    for (offset, size) in [(4000, 97), (1, 4096), (0, 4097), (0xFFFF, 1000)] {
        is_closed_for("first", |guest, gref| guest.chain(0, size, &[(gref, offset, 0)]));
    }
}

#[test]
fn a_later_fragment_that_leaves_its_page() {
    for (offset, size) in [(4000, 97), (1, 4096), (0, 4097), (0xFFFF, 1)] {
        is_closed_for("later", |guest, gref| {
            guest.chain(0, 100 + size, &[(gref, 0, 0), (gref, offset, size)]);
        });
    }
}

#[test]
fn twenty_slots_beyond_the_first() {
    for slots in [21, 22, 100, 256] {
        is_closed_for("slots", |guest, gref| {
            let pieces: Vec<_> = (0..slots).map(|_| (gref, 0, 10)).collect();
            guest.chain(0, slots * 10, &pieces);
        });
    }
}

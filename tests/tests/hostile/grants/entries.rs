//! Owners that change their entries while they are looked at.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use xenvelope_grant::entry::Extent;
use xenvelope_grant::seam::{
    Access, Copier as _, CopyOp, End, Granter as _, Host as _, Share as _,
};
use xenvelope_grant::table::GrantTable;
use xenvelope_grant::{DomId, GrantError, Gref, Words};
use xenvelope_hypervisor_sim::machine::grant_check::{ActiveEntry, GrantCheck, Purpose, Request};
use xenvelope_hypervisor_sim::machine::{Costs, DomainOptions, GrantVersion, Machine, SharedPages};

use super::{copied, granted};

/// More tries than anybody should make.
const ENDLESS: u32 = 1000;
const PEER: DomId = DomId(2);
const REF: Gref = Gref(9);
const READ: Request =
    Request { grantee: PEER, access: Access::Read, purpose: Purpose::Copy { transitive: true } };

/// An entry whose owner is always quicker: no compare-exchange finds what was there before.
struct Spinning {
    words: SharedPages,
    spins: Cell<bool>,
    tries: Cell<u32>,
}

impl Words for &Spinning {
    fn size(&self) -> usize {
        self.words.size()
    }
    fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        self.words.load_u16(at, order)
    }
    fn store_u16(&self, at: usize, value: u16, order: Ordering) {
        self.words.store_u16(at, value, order);
    }
    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
        if !self.spins.get() {
            return self.words.compare_exchange_u16(at, current, new);
        }
        self.tries.set(self.tries.get() + 1);
        assert!(self.tries.get() < ENDLESS, "a peer's entry holds the hypervisor up");
        // A flag that permits and forbids nothing: GTF_PWT.
        Err(current ^ 0x20)
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.words.load_u32(at, order)
    }
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.words.store_u32(at, value, order);
    }
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        self.words.load_u64(at, order)
    }
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.words.store_u64(at, value, order);
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        self.words.copy_out(at, out);
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        self.words.copy_in(at, bytes);
    }
    fn full_barrier(&self) {
        self.words.full_barrier();
    }
    fn read_barrier(&self) {
        self.words.read_barrier();
    }
}

fn spinning() -> Spinning {
    let machine = Machine::new(Costs::ideal());
    let owner = machine.create_domain("owner", 64);
    let words = owner.export(PEER, 1, Access::Write).expect("memory");
    Spinning { words, spins: Cell::new(false), tries: Cell::new(0) }
}

/// Hangs on `MAX_TRIES` in `GrantCheck::set_in_use_v1`.
#[test]
fn xsa_295_who_spins_an_entry_does_not_hold_up_who_wants_to_use_it() {
    let words = spinning();
    let table = GrantTable::V1 { entries: &words };
    let check = GrantCheck::new(DomId(1), 16, &words, None);
    table.grant(REF, PEER, Extent::FullPage { frame: 3 }, Access::Read).expect("a free entry");
    words.spins.set(true);
    let mut active = ActiveEntry::IDLE;
    assert_eq!(check.acquire(&mut active, REF, READ), Err(GrantError::General));
    assert!(!active.is_pinned());
    assert!(words.tries.get() > 1, "it was tried again");
}

/// Hangs on `MAX_TRIES` in `GrantCheck::clear`.
#[test]
fn xsa_295_who_spins_an_entry_does_not_hold_up_who_has_used_it() {
    let words = spinning();
    let table = GrantTable::V1 { entries: &words };
    let check = GrantCheck::new(DomId(1), 16, &words, None);
    table.grant(REF, PEER, Extent::FullPage { frame: 3 }, Access::Read).expect("a free entry");
    let mut active = ActiveEntry::IDLE;
    check.acquire(&mut active, REF, READ).expect("granted");
    words.spins.set(true);
    check.release(&mut active, REF, Access::Read);
    assert!(words.tries.get() > 1, "it was tried again");
    words.spins.set(false);
    assert_eq!(table.revoke(REF), Ok(()), "nothing of the use is left");
}

/// Hangs on `same` in `GrantCheck::look_up`.
#[test]
fn xsa_500_an_entry_that_is_led_elsewhere_while_it_is_used_gives_no_other_page() {
    for version in [GrantVersion::V1, GrantVersion::V2] {
        let machine = Machine::new(Costs::ideal());
        let options = DomainOptions { grant_version: version, ..DomainOptions::new("hostile", 64) };
        let (owner, peer) =
            (machine.create(&options).expect("a domain"), machine.create_domain("peer", 64));
        let (out, segment) = granted(&owner, &peer, 5, Access::Write);
        let reading = peer.import(owner.domid(), &[segment.gref], Access::Read).expect("granted");
        let elsewhere = Extent::FullPage { frame: 60 };
        let table = owner.grant_table();
        table.grant(segment.gref, peer.domid(), elsewhere, Access::Write).expect("an entry");
        let dst = End::Foreign { dom: owner.domid(), gref: segment.gref, offset: 0 };
        let mut ops = [CopyOp::new(End::Local { buffer: 0, offset: 0 }, dst, 4096)];
        let mut buffers = [peer.take(None, 4096).expect("memory")];
        peer.copy(&mut ops, &mut buffers).expect("the call");
        assert_eq!(ops[0].status.check(), Err(GrantError::General), "{version:?}");
        let again = copied(&peer, owner.domid(), segment);
        assert_eq!(again, Ok(5), "{version:?}: the page that was checked");
        let mapped = peer.import(owner.domid(), &[segment.gref], Access::Write).expect("as before");
        assert_eq!(mapped.load_u32(0, Ordering::Relaxed), 0x0505_0505, "{version:?}");
        drop(mapped);
        drop(reading);
        owner.revoke(out).expect("nobody uses it");
    }
}

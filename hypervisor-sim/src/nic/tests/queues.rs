//! Receive queues: steering by address, straight into pages that guests granted.

use xenvelope_grant::seam::{Access, Filled, Granter, GuestQueue, Instant, ReceiveArea, Unfilled};
use xenvelope_grant::{DomId, Gref, PAGE_SIZE};

use super::hardware::{Host as Vectors, frame, received};
use crate::machine::{Costs, Domain, Machine, PageArea};
use crate::nic::{
    CardPort, DomainPort, GrantedQueue, Nic, NicConfig, NicKind, Translation, WireEnd,
};

const T0: Instant = Instant(0);
const STRANGER: [u8; 6] = [2, 9, 9, 9, 9, 9];
const ALL: [u8; 6] = [0xFF; 6];
const MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const NONE: Result<Filled, Unfilled> = Err(Unfilled::NoLink);

#[test]
fn frames_are_steered_by_address_and_the_rest_is_the_pfs() {
    let config = NicConfig { kind: NicKind::MultiQueue, ..NicConfig::default() };
    let host = Vectors::new(NicConfig { latency_ns: 0, iommu_miss_ns: 0, ..config });
    let (pf, wire) = (host.pf(), host.nic.wire().unwrap());
    host.post(&pf, 0, 8);
    let queues = [0, 1].map(|queue| host.queue(queue));
    for (index, queue) in queues.iter().enumerate() {
        host.nic.pf_control().set_vf_mac(index, MAC[index]).unwrap();
        host.nic.pf_control().set_vf_floods(index, false).unwrap();
        let buffers = (0..4).map(|at| (0x40_0000 + (index as u64 * 4 + at) * 4096, 4096));
        assert_eq!(queue.post(buffers), 4);
    }
    for to in [MAC[0], STRANGER, MAC[1], ALL, MAC[1]] {
        wire.send(&frame(to, STRANGER, 60, 1)).unwrap();
    }
    host.settle(T0);
    let filled = queues.each_ref().map(|queue| std::iter::from_fn(|| queue.reap()).count());
    assert_eq!(filled, [1, 2]);
    assert_eq!(received(&pf).len(), 2, "one for nobody, one for all");
    // What is sent leaves, whoever has the address.
    host.send(&pf, 0, &frame(MAC[0], STRANGER, 60, 2));
    host.settle(T0);
    assert_eq!(queues[0].reap(), None);
    assert_eq!(wire.receive(), Some(frame(MAC[0], STRANGER, 60, 2)));
}

#[test]
fn what_a_queue_has_comes_back_when_its_link_goes() {
    let host = Vectors::ideal();
    let (_pf, queue) = (host.pf(), host.queue(0));
    let wire = host.nic.wire().unwrap();
    host.nic.pf_control().set_vf_mac(0, MAC[0]).unwrap();
    assert_eq!(queue.post((0..3).map(|at| (0x40_0000 + at * 4096, 4096))), 3);
    wire.send(&frame(MAC[0], STRANGER, 60, 1)).unwrap();
    host.settle(T0);
    host.nic.unplug_vf(0).unwrap();
    assert_eq!(queue.room(), 0);
    assert!(queue.reap().unwrap().is_ok(), "it was in memory before");
    assert_eq!(queue.reap(), Some(NONE));
    assert_eq!(queue.reap(), Some(NONE));
    assert_eq!(queue.reap(), None);
    host.nic.plug_vf(0).unwrap();
    while queue.reap().is_some() {}
    assert_eq!(queue.post([(0x40_0000, 4096)].into_iter()), 1);
    wire.send(&frame(MAC[0], STRANGER, 60, 1)).unwrap();
    host.settle(T0);
    assert!(queue.reap().unwrap().is_ok());
}

/// A driver domain with a card, and two guests with areas that it may write.
struct Setup {
    nic: std::sync::Arc<Nic>,
    driver: Domain,
    _pf: DomainPort,
    guests: [Domain; 2],
    areas: [PageArea; 2],
    wire: WireEnd,
}

impl Setup {
    fn new(translation: Translation) -> Setup {
        let machine = Machine::new(Costs::ideal());
        let driver = machine.create_domain("driver-domain", 1024);
        let guests = ["a", "b"].map(|name| machine.create_domain(name, 1024));
        let config = NicConfig { kind: NicKind::MultiQueue, translation, ..NicConfig::default() };
        let nic = Nic::new(NicConfig { latency_ns: 0, iommu_miss_ns: 0, ..config }).unwrap();
        let pf = nic.assign(CardPort::Pf, &driver).unwrap();
        let areas = guests.each_ref().map(|guest| guest.receive_area(DomId(0), 8).unwrap());
        let wire = nic.wire().unwrap();
        Setup { nic, driver, _pf: pf, guests, areas, wire }
    }

    fn open(&self, guest: usize) -> GrantedQueue {
        self.nic.pf_control().set_vf_mac(guest, MAC[guest]).unwrap();
        self.nic.open_queue(guest, &self.driver, self.guests[guest].peer().domid).unwrap()
    }

    fn send(&self, guest: usize, mark: u8) -> Vec<u8> {
        let sent = frame(MAC[guest], STRANGER, 1000, mark);
        self.wire.send(&sent).unwrap();
        while self.nic.run(T0).is_some() {}
        sent
    }
}

fn filled(queue: &GrantedQueue) -> Vec<Result<u16, Unfilled>> {
    let mut out = [NONE; 16];
    let count = queue.filled(&mut out);
    out[..count].iter().map(|filled| filled.map(|filled| filled.length)).collect()
}

/// Whoever translates, or does not: the card writes the page that the guest posted, once, and no
/// processor copies it. While it is the card's the guest cannot have it back.
#[test]
fn a_frame_from_the_wire_is_in_the_guests_page_and_nobody_copied_it() {
    for translation in [Translation::Iommu, Translation::Nic, Translation::None] {
        let mut setup = Setup::new(translation);
        let queue = setup.open(0);
        let refs = [0, 1].map(|page| setup.areas[0].open(page).unwrap());
        queue.post(&refs);
        assert!(setup.areas[0].close(0).is_err(), "the card has it");
        let sent = setup.send(0, 7);
        assert_eq!(filled(&queue), [Ok(1000)], "{translation:?}");
        assert!(setup.areas[0].close(0).is_ok(), "the card and the driver let go");
        assert_eq!(setup.areas[0].stack_bytes(0..1000), Some(&sent[..]));
        let copied = [&setup.driver, &setup.guests[0], &setup.guests[1]]
            .map(|domain| domain.counters().copied_bytes);
        assert_eq!(copied, [0; 3]);
        let driver = setup.driver.counters();
        assert_eq!(driver.hypercalls, 2, "one to map both, one to unmap the first");
        // The end of the queue gives back the rest.
        drop(queue);
        assert!(setup.areas[0].close(1).is_ok());
    }
}

/// A guest posts what is not granted, granted to somebody else, granted for reading, or no
/// reference at all. Each comes back in its turn; the card hears of none; frames go into the next
/// good page, and another guest notices nothing.
#[test]
fn a_guest_that_posts_bad_buffers_harms_only_itself() {
    for translation in [Translation::Iommu, Translation::None] {
        let mut setup = Setup::new(translation);
        let (hostile, other) = (setup.open(0), setup.open(1));
        let guest = &setup.guests[0];
        let read_only = {
            let buffer = guest.take(None, PAGE_SIZE).unwrap();
            let used = 0..PAGE_SIZE;
            guest.grant(buffer, setup.driver.peer(), used, Access::Read).unwrap()
        };
        let strangers = {
            let buffer = guest.take(None, PAGE_SIZE).unwrap();
            guest.grant(buffer, setup.guests[1].peer(), 0..PAGE_SIZE, Access::Write).unwrap()
        };
        let gref = |out| guest.segments(out)[0].gref;
        let bad = [gref(&read_only), gref(&strangers), Gref(u32::MAX), Gref(100)];
        let good = setup.areas[0].open(0).unwrap();
        let others = setup.areas[1].open(0).unwrap();
        hostile.post(&bad);
        hostile.post(&[good]);
        other.post(&[others]);
        assert_eq!(filled(&hostile), [Err(Unfilled::NotGranted); 4], "{translation:?}");
        let sent = [setup.send(0, 1), setup.send(1, 2)];
        assert_eq!(filled(&hostile), [Ok(1000)]);
        assert_eq!(filled(&other), [Ok(1000)]);
        for (area, sent) in setup.areas.iter_mut().zip(&sent) {
            assert!(area.close(0).is_ok());
            assert_eq!(area.stack_bytes(0..1000), Some(&sent[..]));
        }
        assert_eq!(setup.nic.total_counters().dma_fault, 0);
        // Without a buffer its frames are lost, and its alone.
        setup.send(0, 3);
        assert_eq!(setup.nic.counters(CardPort::Vf(0)).no_receive_buffer, 1);
        assert_eq!(setup.nic.counters(CardPort::Vf(1)).dropped(), 0);
        drop((read_only, strangers));
    }
}

/// A guest that ends while the card has its pages: nothing of its successor is written.
#[test]
fn a_guest_that_ends_takes_its_pages_out_of_the_cards_reach() {
    for translation in [Translation::Iommu, Translation::None] {
        let mut setup = Setup::new(translation);
        let queue = setup.open(0);
        queue.post(&[setup.areas[0].open(0).unwrap()]);
        let (machine, id) = (setup.driver.machine().clone(), setup.guests[0].peer().domid);
        machine.destroy(id);
        let next = machine.create_domain_with_id("next", id, 1024);
        let _area = next.receive_area(DomId(0), 8).unwrap();
        setup.send(0, 0xAA);
        assert_eq!(filled(&queue), [Err(Unfilled::Fault)], "{translation:?}");
        assert_eq!(setup.nic.counters(CardPort::Vf(0)).dma_fault, 1);
        assert!(machine.readable_bytes(id).iter().all(|&byte| byte == 0));
    }
}

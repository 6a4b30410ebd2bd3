//! XSA-403 (CVE-2022-26365, 33740 to 33742): a grant is of 4 KiB, and a back-end read what else
//! there was in them.

use xenvelope_frontend::Config;
use xenvelope_grant::seam::{Access, Buffer as _, Granter as _, Host as _, Share as _};
use xenvelope_grant::xenbus::XenbusState::{Closed, Connected, InitWait};
use xenvelope_grant::{DomId, Gref, PAGE_SIZE, Words as _};
use xenvelope_hypervisor_sim::machine::GrantVersion;
use xenvelope_switch::table::{CHANNEL_DRIVER_DOMAIN, Entry, EntryFlags};
use xenvelope_tests::lab::{FakeBackend, envelopes, frame, mac};

const SECRET: u8 = 0xA7;

/// All that the driver domain can see of the pages behind these references.
fn seen(fake: &FakeBackend, refs: &[Gref]) -> Vec<u8> {
    let owner = fake.guest.domain.domid();
    let mut seen = Vec::new();
    for gref in refs {
        if let Ok(mapped) = fake.dom0.import(owner, &[*gref], Access::Read) {
            let mut page = vec![0; PAGE_SIZE];
            mapped.copy_out(0, &mut page);
            seen.extend(page);
            continue;
        }
        let byte = |at| fake.steal(&fake.dom0, *gref, at, 1);
        seen.extend((0..PAGE_SIZE as u16).filter_map(byte).flatten());
    }
    seen
}

#[test]
fn xsa_403_what_the_page_of_a_short_frame_held_for_another_guest() {
    for version in [GrantVersion::V1, GrantVersion::V2] {
        let mut fake = FakeBackend::new(Config::default(), version);
        let other = fake.other("other");
        let (channel, flags) = (CHANNEL_DRIVER_DOMAIN, EntryFlags::ENVELOPE);
        let entry = Entry { mac: mac(1), vid: 0, peer: other.peer(), channel, flags };
        fake.table.borrow_mut().insert(entry).expect("room");
        fake.guest.send(&frame(mac(1), mac(0), &[SECRET; 3000]));
        fake.step();
        for envelope in fake.envelopes() {
            fake.push_envelope(&envelopes::done_for(&envelope).expect("frames"));
        }
        fake.step();
        assert_eq!(fake.guest.frontend.outstanding(), 0, "its pages are free again");
        let before = fake.grants(DomId::DOM0);
        for _ in 0..4 {
            fake.guest.send(&frame(mac(5), mac(0), &[1; 300]));
        }
        fake.step();
        let refs: Vec<Gref> =
            fake.grants(DomId::DOM0).into_iter().filter(|gref| !before.contains(gref)).collect();
        assert_eq!(refs.len(), 4, "{version:?}");
        let seen = seen(&fake, &refs);
        assert_eq!(seen.iter().filter(|byte| **byte == 1).count(), 4 * 300, "{version:?}");
        assert!(!seen.contains(&SECRET), "{version:?}");
    }
}

#[test]
fn xsa_403_what_the_pages_of_a_receive_ring_held_before() {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    // As many pages as the receive area has: it will get these.
    let mut secret = fake.guest.domain.take(None, 256 * PAGE_SIZE).expect("memory");
    secret.stack_bytes_mut().fill(SECRET);
    fake.say(Closed);
    fake.step();
    drop(secret);
    let before = fake.grants(DomId::DOM0);
    fake.pass_ms(5000);
    fake.say(InitWait);
    fake.step();
    assert_eq!(fake.states().0, Connected);
    let refs: Vec<Gref> =
        fake.grants(DomId::DOM0).into_iter().filter(|gref| !before.contains(gref)).collect();
    assert!(refs.len() >= 256);
    // References in the rings may be that byte by chance, once.
    assert!(!seen(&fake, &refs).windows(8).any(|bytes| bytes == [SECRET; 8]));
}

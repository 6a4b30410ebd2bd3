//! A forwarding table's page.

use xenvelope_grant::seam::{Access, Share};
use xenvelope_grant::{DomId, PAGE_SIZE, Words};
use xenvelope_hypervisor_sim::machine::{Costs, Domain, Machine, SharedPages};
use xenvelope_switch::MacAddress;
use xenvelope_switch::table::{MAX_CHANNEL, TableReader};

thread_local! {
    /// Made once: nothing of it is left from one run to the next.
    static PAGE: (Domain, SharedPages) = {
        let domain = Machine::new(Costs::ideal()).create_domain("manager", 64);
        let page = domain.export(DomId(1), 1, Access::Read).expect("a page");
        (domain, page)
    };
}

/// The bytes are the table's page. Addresses are looked up that stand in it, and others.
pub fn table(data: &[u8]) {
    let mut bytes = [0; PAGE_SIZE];
    let len = data.len().min(PAGE_SIZE);
    bytes[..len].copy_from_slice(&data[..len]);
    PAGE.with(|(_, page)| {
        page.copy_in(0, &bytes);
        let Ok(reader) = TableReader::attach(page) else { return };
        let _ = (reader.heartbeat(), reader.epoch(), reader.floods_by_driver_domain());
        assert!(reader.default_route() <= MAX_CHANNEL);
        // A bucket is 8 bytes of tags and then entries of 24 bytes.
        let buckets = bytes[128..].chunks_exact(128);
        for entry in buckets.flat_map(|bucket| bucket[8..104].as_chunks::<24>().0) {
            let word = u64::from_le_bytes(*entry.first_chunk().expect("8 of 24 bytes"));
            let [_, _, a, b, c, d, e, f] = (word >> 16).to_be_bytes();
            let mac = MacAddress([a, b, c, d, e, f]);
            for vid in [0, 1, 4094, (word & 0xFFF) as u16] {
                let Some(found) = reader.lookup(mac, vid) else { continue };
                assert_eq!((found.mac, found.vid), (mac, vid), "another's entry");
                assert!(found.channel <= MAX_CHANNEL);
                let _ = reader.still_leads_to(found.peer, mac, vid);
            }
        }
    });
}

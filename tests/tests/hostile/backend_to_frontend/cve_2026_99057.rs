//! CVE-2026-99057: a chain of more fragments than a frame has, and netfront lost the buffer that
//! it had begun.

use xenvelope_grant::netif::{RxFlags, RxResponse};

use super::{connected, has_ended};

#[test]
fn cve_2026_99057_a_chain_of_more_fragments_than_a_frame_has() {
    // 18 is what a frame may have, and one more is taken from who counts otherwise.
    for fragments in [20, 21, 100, 255] {
        let mut fake = connected();
        for index in 0..fragments {
            let id = fake.rx.pop().id;
            let more = if index + 1 < fragments { RxFlags::MORE_DATA } else { RxFlags::empty() };
            let response = RxResponse { id, offset: 0, flags: more.bits(), status: 100 };
            let _ = fake.rx.push(&response);
        }
        let _ = fake.rx.publish();
        has_ended(fake, &format!("{fragments} fragments"));
    }
}

//! XSA-155, towards netfront: a response is rewritten between the check and the use.

use xenvelope_frontend::netfront::{NetifReceived, PAGES, Place, Receiver};
use xenvelope_grant::netif::{RxRequest, RxResponse};
use xenvelope_grant::ring::Back;
use xenvelope_grant::seam::{Access, Granter as _, Host as _, Share as _, Shared as _};
use xenvelope_hypervisor_sim::machine::{Costs, Domain, Machine};
use xenvelope_tests::lab::{RX_LAYOUT, Shifting};

#[test]
fn xsa_155_a_response_rewritten_as_soon_as_it_was_read() {
    let machine = Machine::new(Costs::ideal());
    let (dom0, guest) = (machine.create_domain("driver", 64), machine.create_domain("guest", 1024));
    let page = guest.export(dom0.domid(), 1, Access::Write).expect("memory");
    let mapped = dom0.import(guest.domid(), page.refs(), Access::Write).expect("a page");
    let area = guest.receive_area(dom0.domid(), PAGES).expect("memory");
    // Beyond its page, with more to come, and longer than a page.
    let evil = [0, 0, 0xA0, 0x0F, 4, 0, 0xFF, 0x7F];
    let mut receiver: Receiver<Domain, Shifting> = Receiver::new(Shifting::new(page, &evil), area);
    let _ = receiver.post();
    let mut back = Back::<_, RxRequest, RxResponse>::attach(mapped, RX_LAYOUT);
    let id = back.pop().id;
    let honest = RxResponse { id, offset: 16, flags: 0, status: 100 };
    let _ = back.push(&honest);
    let _ = back.publish();
    let received = receiver.receive(&guest).expect("an honest response");
    let Some(Ok(NetifReceived { place: Place::Area(range), .. })) = received else {
        panic!("what was published is a frame");
    };
    assert_eq!(range, 16..116);
    let words = receiver.into_words();
    assert_eq!(words.rewritten(), 1, "the driver domain did rewrite it");
    assert_eq!(words.reads(), [1], "it was read once");
}

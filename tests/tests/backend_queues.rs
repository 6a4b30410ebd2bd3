//! Stock frontends with several queues and split event channels, and with fewer or more
//! offloads than others.

use std::collections::BTreeMap;

use proptest::prelude::*;
use xenvelope_backend::{Config, DropReason};
use xenvelope_grant::netif::{GSO_TYPE_TCPV4, GSO_TYPE_TCPV6, RxFlags, TxFlags};
use xenvelope_grant::xenbus::key;
use xenvelope_switch::MacAddress;
use xenvelope_tests::lab::stock::LINUX;
use xenvelope_tests::lab::{GuestPlan, Lab, StockGuest, StockPlan, mac};

const QUEUES: usize = 4;

fn lab() -> Lab {
    Lab::configured(true, Config { queues: QUEUES, ..Config::default() })
}

/// A frame of TCP over IPv4 or IPv6, with `length` bytes of payload that begin with `number`.
fn tcp(
    to: MacAddress,
    from: MacAddress,
    v6: bool,
    port: u16,
    number: u32,
    length: usize,
) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, if v6 { &[0x86, 0xdd] } else { &[8, 0] }].concat();
    let mut header = vec![0; if v6 { 40 } else { 20 }];
    if v6 {
        (header[0], header[6], header[23], header[39]) = (0x60, 6, 1, 2);
        header[4..6].copy_from_slice(&(20 + length as u16).to_be_bytes());
    } else {
        (header[0], header[9], header[15], header[19]) = (0x45, 6, 1, 2);
        header[2..4].copy_from_slice(&(40 + length as u16).to_be_bytes());
    }
    frame.extend(header);
    frame.extend(port.to_be_bytes());
    frame.extend([0; 18]);
    frame.extend(number.to_le_bytes());
    frame.resize(frame.len() + length - 4, 7);
    frame
}

fn number_of(frame: &[u8], v6: bool) -> u32 {
    let at = if v6 { 74 } else { 54 };
    u32::from_le_bytes(frame[at..at + 4].try_into().expect("four bytes"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Hangs on `FlowHash`, on `Queue::kick` and on all queues being taken from.
    #[test]
    fn frames_of_a_flow_stay_in_one_queue_in_order_and_the_right_port_is_told(
        queues in 1..=QUEUES,
        split: bool,
        v6: bool,
        flows in prop::collection::vec((0u16..12, 4usize..3000), 1..120),
    ) {
        let mut lab = lab();
        let plan = StockPlan { queues, split, ..StockPlan::default() };
        let mut one = StockGuest::connect(&mut lab, mac(1), &plan);
        let mut other = StockGuest::connect(&mut lab, mac(2), &StockPlan { queues: QUEUES, ..plan });
        let mut queue_of = BTreeMap::new();
        let mut last = BTreeMap::new();
        let (mut sent, mut came) = (0, 0);
        for (number, (port, length)) in flows.iter().enumerate() {
            other.ask();
            other.fired();
            let frame = tcp(mac(2), mac(1), v6, *port, number as u32, *length);
            one.send(usize::from(*port) % queues, &frame, TxFlags::empty(), None);
            sent += 1;
            lab.steps(2);
            let fired = other.fired();
            for frame in other.take() {
                came += 1;
                let port = u16::from_be_bytes(frame.bytes[if v6 { 54 } else { 34 }..][..2].try_into().unwrap());
                let queue = *queue_of.entry(port).or_insert(frame.queue);
                prop_assert_eq!(queue, frame.queue, "a flow stays where it is");
                let number = number_of(&frame.bytes, v6);
                prop_assert!(last.insert(port, number).is_none_or(|last| last < number));
                prop_assert!(fired.contains(&other.rx_port(queue)));
                prop_assert_eq!(fired.len(), 1, "nobody else is woken");
            }
            other.post_all(8);
            one.reap();
        }
        prop_assert_eq!(came, sent);
        prop_assert_eq!(one.unanswered(), 0);
    }
}

#[test]
fn features_are_offered_as_linux_reads_them() {
    let mut lab = lab();
    let guest = StockGuest::new(&lab, mac(1));
    lab.steps(10);
    for name in [
        key::FEATURE_SG,
        key::FEATURE_GSO_TCPV4,
        key::FEATURE_GSO_TCPV6,
        key::FEATURE_IPV6_CSUM_OFFLOAD,
        key::FEATURE_RX_COPY,
        key::FEATURE_SPLIT_EVENT_CHANNELS,
    ] {
        assert_eq!(guest.back.number(&guest.domain, name), Ok(1), "{name}");
    }
    let max = guest.back.number(&guest.domain, key::MULTI_QUEUE_MAX_QUEUES);
    assert_eq!(max, Ok(QUEUES as u64));
    assert!(guest.back.text(&guest.domain, "feature-multicast-control").is_err());
    assert!(guest.back.text(&guest.domain, "feature-ctrl-ring").is_err());
}

/// Hangs on `Takes::gso`.
#[test]
fn a_guest_gets_the_kinds_of_gso_that_it_takes_and_no_other() {
    for (takes, v6) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut lab = lab();
        let name = if v6 { key::FEATURE_GSO_TCPV6 } else { key::FEATURE_GSO_TCPV4 };
        let mut plan = StockPlan::default();
        plan.keys.retain(|(key, _)| takes || *key != name);
        let mut to = StockGuest::connect(&mut lab, mac(2), &plan);
        let mut from = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
        let gso = (1448, if v6 { GSO_TYPE_TCPV6 } else { GSO_TYPE_TCPV4 });
        let frame = tcp(mac(2), mac(1), v6, 80, 1, 20_000);
        from.send(0, &frame, TxFlags::CSUM_BLANK, Some(gso));
        lab.steps(5);
        let came = to.take();
        assert_eq!(came.len(), usize::from(takes), "{takes} {v6}");
        for came in came {
            assert_eq!(came.gso, Some(gso));
            assert_eq!(came.bytes, frame);
            assert!(came.flags.contains(RxFlags::CSUM_BLANK | RxFlags::DATA_VALIDATED));
        }
        let dropped = lab.backend.counters().drops[DropReason::CannotTake as usize];
        assert_eq!(dropped, u64::from(!takes));
    }
}

/// Hangs on `fill_checksum`.
#[test]
fn a_guest_that_takes_no_blank_checksums_gets_them_filled_in_where_that_can_be() {
    for (v6, length) in [(false, 20), (true, 20), (false, 1000), (true, 1000)] {
        let mut lab = lab();
        let others = LINUX.into_iter().filter(|(key, _)| !key.contains("csum"));
        let keys = others.chain([(key::FEATURE_NO_CSUM_OFFLOAD, 1)]).collect();
        let plan = StockPlan { keys, ..StockPlan::default() };
        let mut without = StockGuest::connect(&mut lab, mac(2), &plan);
        let mut with = StockGuest::connect(&mut lab, mac(3), &StockPlan::default());
        let mut from = StockGuest::connect(&mut lab, mac(1), &StockPlan::default());
        let frame = tcp(MacAddress::BROADCAST, mac(1), v6, 80, 1, length);
        from.send(0, &frame, TxFlags::CSUM_BLANK | TxFlags::DATA_VALIDATED, None);
        lab.steps(5);
        let blank = with.take();
        assert_eq!(blank.len(), 1);
        assert_eq!(blank[0].bytes, frame, "who takes it blank gets it as it was");
        assert!(blank[0].flags.contains(RxFlags::CSUM_BLANK));
        let filled = without.take();
        assert_eq!(filled.len(), usize::from(length < 50), "longer ones are not in our memory");
        for came in filled {
            assert!(!came.flags.contains(RxFlags::CSUM_BLANK));
            assert!(came.flags.contains(RxFlags::DATA_VALIDATED));
            let mut expected = frame.clone();
            assert!(xenvelope_backend::netback::fill_checksum(&mut expected));
            assert_ne!(expected, frame);
            assert_eq!(came.bytes, expected);
        }
    }
}

/// Hangs on `by_address`: the headers of what comes in envelopes are not seen, those of what
/// comes whole are, and both are one flow.
#[test]
fn frames_of_a_guest_with_envelopes_stay_in_order_in_a_guest_with_many_queues() {
    let mut lab = lab();
    lab.add_guest(&GuestPlan::default());
    lab.connect();
    let plan = StockPlan { queues: QUEUES, split: true, ..StockPlan::default() };
    let mut stock = StockGuest::connect(&mut lab, mac(5), &plan);
    lab.steps(20);
    let mut numbers = Vec::new();
    for number in 0..200 {
        let length = if number % 3 == 0 { 1400 } else { 40 };
        let frame = tcp(mac(5), mac(0), false, 443, number, length);
        assert!(lab.guests[0].send(&frame));
        if number % 8 == 7 {
            lab.steps(4);
            let came = stock.take();
            assert!(came.iter().all(|frame| frame.queue == came[0].queue));
            numbers.extend(came.iter().map(|frame| number_of(&frame.bytes, false)));
            stock.post_all(16);
        }
    }
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
}

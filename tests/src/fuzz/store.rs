//! Values in the store that the other side wrote.

use xenvelope_frontend::Config;
use xenvelope_grant::DomId;
use xenvelope_grant::seam::Host as _;
use xenvelope_grant::xenbus::{Directory, Transaction, key};
use xenvelope_hypervisor_sim::machine::{Domain, GrantVersion};

use super::input::Input;
use crate::lab::{FakeBackend, GuestPlan, Lab, StockGuest, mac};

/// What a frontend says of itself.
const FRONTEND_KEYS: [&str; 22] = [
    key::STATE,
    key::TX_RING_REF,
    key::RX_RING_REF,
    key::EVENT_CHANNEL,
    key::EVENT_CHANNEL_TX,
    key::EVENT_CHANNEL_RX,
    key::MULTI_QUEUE_NUM_QUEUES,
    "queue-0/tx-ring-ref",
    "queue-0/rx-ring-ref",
    "queue-0/event-channel",
    key::REQUEST_RX_COPY,
    key::FEATURE_SG,
    key::FEATURE_GSO_TCPV4,
    key::FEATURE_ENVELOPE,
    key::FEATURE_TRANSITIVE,
    "envelope-tx-ring-ref0",
    "envelope-rx-ring-ref4",
    key::VF_LINK,
    key::NIC_QUEUE_RING_REF,
    "direct/2/state",
    "direct/2/event-channel",
    "direct/2/envelope-tx-ring-ref0",
];

/// What a backend says.
const BACKEND_KEYS: [&str; 18] = [
    key::STATE,
    key::MAC,
    key::FEATURE_SG,
    key::FEATURE_RX_COPY,
    key::FEATURE_GSO_TCPV6,
    key::FEATURE_ENVELOPE,
    key::MULTI_QUEUE_MAX_QUEUES,
    key::FEATURE_SPLIT_EVENT_CHANNELS,
    key::FORWARDING_TABLE_PAGES,
    "forwarding-table-ref0",
    key::FEATURE_NIC_QUEUE,
    key::NIC_CONTEXT,
    "direct/2/peer-id",
    "direct/2/peer-incarnation",
    "direct/2/role",
    "direct/2/event-channel",
    "direct/2/envelope-rx-ring-ref0",
    "direct/99999/role",
];

/// Writes any value to one of the keys. The store may refuse it.
fn write(directory: &Directory, keys: &[&str], input: &mut Input, by: &Domain, reader: DomId) {
    let name = keys[usize::from(input.byte()) % keys.len()];
    let value = input.piece();
    // A number is worth more than its digits.
    let value = match value {
        [] => input.word().to_string(),
        [one] => (one % 16).to_string(),
        _ => String::from_utf8_lossy(value).into_owned(),
    };
    let (directory, name) = match name.rsplit_once('/') {
        Some((below, name)) => match directory.child(below) {
            Ok(child) => (child, name),
            Err(_) => return,
        },
        None => (*directory, name),
    };
    let mut keys = Transaction::new();
    keys.write(&directory, name, value, Some(reader));
    let _ = keys.commit(by);
}

/// A guest that writes what it likes into its directory. The others' frames arrive.
pub fn backend_store(data: &[u8]) {
    let mut lab = Lab::with_guests(2, &GuestPlan::default());
    let guest = StockGuest::new(&lab, mac(9));
    lab.steps(4);
    let mut input = Input::new(data);
    while let Some(act) = input.act(4) {
        match act {
            0 => lab.step(),
            _ => write(&guest.front, &FRONTEND_KEYS, &mut input, &guest.domain, DomId::DOM0),
        }
    }
    lab.steps(4);
    lab.expect_delivery(0, 1, &[2; 60]);
    lab.expect_delivery(1, 0, &[3; 1000]);
}

/// A driver domain that writes what it likes into its directory.
pub fn frontend_store(data: &[u8]) {
    let mut fake = FakeBackend::new(Config::default(), GrantVersion::V2);
    let reader = fake.guest.domain.domid();
    let mut input = Input::new(data);
    while let Some(act) = input.act(4) {
        match act {
            0 => fake.step(),
            _ => write(&fake.back, &BACKEND_KEYS, &mut input, &fake.dom0, reader),
        }
    }
    for _ in 0..4 {
        fake.step();
    }
    fake.pass_ms(100);
}

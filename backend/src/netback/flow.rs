//! Which flow a frame belongs to: frames of one flow stay in one queue of a guest with many.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use xenvelope_switch::ethernet::{EthernetHeader, ether_type};

/// Protocols whose header begins with two ports of 16 bits: TCP, UDP, SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// A keyed hash, so that no sender can aim at one queue of somebody else's.
#[derive(Clone, Copy, Debug)]
pub struct FlowHash {
    key: (u64, u64),
}

impl FlowHash {
    /// A hash with a key that nobody can guess.
    pub fn new(key: (u64, u64)) -> FlowHash {
        FlowHash { key }
    }

    /// The queue of a frame that begins with `beginning`, out of `queues`: by its IP addresses,
    /// and its ports if each packet of the flow has them (a fragment has none). What is not IP
    /// goes to the first queue.
    pub fn by_packet(&self, beginning: &[u8], queues: usize) -> usize {
        self.place(flow(beginning), queues)
    }

    /// The queue of all frames between two interfaces.
    pub fn by_address(&self, header: &EthernetHeader, queues: usize) -> usize {
        self.place(Some(([&header.source.0[..], &header.destination.0], &[])), queues)
    }

    fn place(&self, flow: Option<([&[u8]; 2], &[u8])>, queues: usize) -> usize {
        let Some(([one, other], ports)) = flow else { return 0 };
        let mut hash = SipHasher13::new_with_keys(self.key.0, self.key.1);
        for part in [one, other, ports] {
            hash.write(part);
        }
        // Below `queues`, which is small.
        ((u128::from(hash.finish()) * queues as u128) >> 64) as usize
    }
}

/// The addresses and ports of a frame over IP.
fn flow(beginning: &[u8]) -> Option<([&[u8]; 2], &[u8])> {
    let header = EthernetHeader::parse(beginning).ok()?;
    let packet = beginning.get(header.len()..)?;
    let (addresses, start, protocol, whole) = match (header.ether_type, packet.first()? >> 4) {
        (ether_type::IPV4, 4) => {
            let length = usize::from(packet[0] & 0x0f) * 4;
            // More fragments, or not the first.
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x3fff != 0;
            (packet.get(12..20)?, length, *packet.get(9)?, !fragment)
        }
        // Extension headers are not followed, a fragment's neither: its addresses decide.
        (ether_type::IPV6, 6) => (packet.get(8..40)?, 40, *packet.get(6)?, true),
        _ => return None,
    };
    let ports = packet.get(start..start + 4).filter(|_| whole && WITH_PORTS.contains(&protocol));
    let (one, other) = addresses.split_at(addresses.len() / 2);
    Some(([one, other], ports.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(source: u8, port: u16, fragment: u16, id: u16) -> Vec<u8> {
        let mut frame = vec![2; 14 + 24];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..34].fill(0);
        (frame[14], frame[23], frame[29]) = (0x45, 6, source);
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame[20..22].copy_from_slice(&fragment.to_be_bytes());
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        frame
    }

    proptest! {
        #[test]
        fn frames_of_a_flow_go_to_one_queue_and_fragments_do_not_look_at_ports(
            key: (u64, u64), source: u8, ports: (u16, u16), ids: (u16, u16), queues in 1usize..9,
        ) {
            let hash = FlowHash::new(key);
            let place = |frame: &[u8]| hash.by_packet(frame, queues);
            let one = place(&v4(source, ports.0, 0x4000, ids.0));
            prop_assert!(one < queues);
            prop_assert_eq!(one, place(&v4(source, ports.0, 0x4000, ids.1)));
            let first = place(&v4(source, ports.0, 0x2000, ids.0));
            prop_assert_eq!(first, place(&v4(source, ports.1, 0x00b9, ids.0)));
        }

        #[test]
        fn whatever_the_bytes_are_there_is_a_queue(
            bytes in prop::collection::vec(any::<u8>(), 0..128), queues in 1usize..9,
        ) {
            prop_assert!(FlowHash::new((1, 2)).by_packet(&bytes, queues) < queues);
        }
    }

    #[test]
    fn many_flows_use_all_queues() {
        let hash = FlowHash::new((7, 9));
        let mut used = [0; 4];
        for port in 0..400 {
            used[hash.by_packet(&v4(1, port, 0, 0), 4)] += 1;
        }
        assert!(used.iter().all(|count| (60..140).contains(count)), "{used:?}");
        assert_eq!(hash.by_packet(&[9; 60], 4), 0, "what is not IP");
    }
}

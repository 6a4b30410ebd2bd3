//! What a port did, in numbers.
//!
//! The counters are a ledger: what the card was given is what it delivered and what it dropped.
//! See [`NicCounters::frames_missing`].

use std::ops::{Add, Sub};

use super::load::Load;

/// Why the card dropped a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DropReason {
    /// A VF sent with a source address that is not its own.
    Spoofed,
    /// A VF sent a frame with a VLAN tag: its VLAN is set by the PF's owner.
    Vlan,
    /// The receiver has posted no buffer.
    NoReceiveBuffer,
    /// Longer than the card carries, or than the buffer that the receiver posted.
    TooLong,
    /// Shorter than an Ethernet header, or its descriptors make no sense.
    Malformed,
    /// To be cut (TSO), but it is not what can be cut: whole TCP over the IP that was announced.
    Segmentation,
    /// No port and no wire to send it to.
    NoDestination,
    /// The IOMMU refused to read or to write it.
    DmaFault,
    /// The receiver's port went down with the frame on its way, or the sender's with the frame
    /// in its ring.
    LinkDown,
    /// The other end of the wire does not keep up.
    WireFull,
}

impl DropReason {
    /// All of them.
    pub const ALL: [DropReason; 10] = [
        DropReason::Spoofed,
        DropReason::Vlan,
        DropReason::NoReceiveBuffer,
        DropReason::TooLong,
        DropReason::Malformed,
        DropReason::Segmentation,
        DropReason::NoDestination,
        DropReason::DmaFault,
        DropReason::LinkDown,
        DropReason::WireFull,
    ];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::Spoofed => "spoofed",
            DropReason::Vlan => "vlan",
            DropReason::NoReceiveBuffer => "no-receive-buffer",
            DropReason::TooLong => "too-long",
            DropReason::Malformed => "malformed",
            DropReason::Segmentation => "segmentation",
            DropReason::NoDestination => "no-destination",
            DropReason::DmaFault => "dma-fault",
            DropReason::LinkDown => "link-down",
            DropReason::WireFull => "wire-full",
        }
    }
}

macro_rules! numbers {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct $name { $($(#[$doc])* pub $field: u64,)* }

        impl Sub for $name {
            type Output = $name;
            /// What was added since `earlier`.
            fn sub(self, earlier: $name) -> $name {
                $name { $($field: self.$field.saturating_sub(earlier.$field),)* }
            }
        }

        impl Add for $name {
            type Output = $name;
            fn add(self, other: $name) -> $name {
                $name { $($field: self.$field.saturating_add(other.$field),)* }
            }
        }
    };
}

numbers! {
    /// What one port did since the card was made; or, subtracted, between two moments.
    NicCounters {
        /// Payload bytes that the card read from memory.
        dma_read_payload,
        /// Descriptor bytes that the card read from memory.
        dma_read_descriptors,
        /// Payload bytes that the card wrote to memory.
        dma_write_payload,
        /// Descriptor bytes that the card wrote back to memory.
        dma_write_descriptors,
        /// Doorbells that the driver rang: writes by the processor, not DMA.
        doorbells,
        /// Interrupts that the card raised.
        interrupts,
        /// Frames that the card took from the port, dropped ones included, without envelopes; and
        /// those that were lost in the port's ring. For the wire: frames that came in.
        tx_frames,
        /// Frames that the port received whole, without envelopes. For the wire: frames that
        /// went out.
        rx_frames,
        /// The same as `tx_frames`, for envelopes.
        tx_envelopes,
        /// The same as `rx_frames`, for envelopes.
        rx_envelopes,
        /// Frames that the card made of the port's by cutting (TSO), beyond the one that was cut.
        segmented_extra,
        /// Copies of the port's frames, beyond the first, that the card made for further
        /// destinations: each of them was received or dropped there. Without envelopes.
        flood_extra,
        /// The same as `flood_extra`, for envelopes.
        flood_extra_envelopes,
        /// Envelopes among what was dropped. The counters below count not them, but the frames
        /// that they carried.
        dropped_envelopes,
        /// Frames among what was dropped that were lost with the envelope that carried them.
        dropped_carried,
        /// Dropped: a VF sent with a source address that is not its own.
        spoofed,
        /// Dropped: a VF sent with a VLAN tag of its own making.
        vlan,
        /// Dropped: the port had no receive buffer.
        no_receive_buffer,
        /// Dropped: longer than the card or the receiver's buffer takes.
        too_long,
        /// Dropped: no Ethernet header, or nonsense in the descriptors.
        malformed,
        /// Dropped: to be cut, but nothing that the card can cut.
        segmentation,
        /// Dropped: nobody to send it to.
        no_destination,
        /// Dropped: refused by the IOMMU.
        dma_fault,
        /// Dropped: the port went down first.
        link_down,
        /// Dropped: the wire was full.
        wire_full,
        /// Page translations that the IOTLB knew.
        iotlb_hits,
        /// Page translations that the IOTLB did not know.
        iotlb_misses,
    }
}

impl NicCounters {
    /// Bytes that the card read from memory.
    pub fn dma_read_bytes(&self) -> u64 {
        self.dma_read_payload + self.dma_read_descriptors
    }

    /// Bytes that the card wrote to memory.
    pub fn dma_write_bytes(&self) -> u64 {
        self.dma_write_payload + self.dma_write_descriptors
    }

    /// Bytes that crossed the bus, both directions together.
    pub fn total(&self) -> u64 {
        self.dma_read_bytes() + self.dma_write_bytes()
    }

    /// Dropped frames, for whatever reason, those in lost envelopes included.
    pub fn dropped(&self) -> u64 {
        self.reasons().map(|(_, frames)| frames).sum()
    }

    /// Each reason to drop a frame, and how many were dropped for it.
    pub fn reasons(&self) -> impl Iterator<Item = (DropReason, u64)> + use<> {
        let counters = *self;
        DropReason::ALL.into_iter().map(move |reason| (reason, counters.of(reason)))
    }

    fn of(&self, reason: DropReason) -> u64 {
        match reason {
            DropReason::Spoofed => self.spoofed,
            DropReason::Vlan => self.vlan,
            DropReason::NoReceiveBuffer => self.no_receive_buffer,
            DropReason::TooLong => self.too_long,
            DropReason::Malformed => self.malformed,
            DropReason::Segmentation => self.segmentation,
            DropReason::NoDestination => self.no_destination,
            DropReason::DmaFault => self.dma_fault,
            DropReason::LinkDown => self.link_down,
            DropReason::WireFull => self.wire_full,
        }
    }

    /// How many ordinary frames went in and neither came out nor were dropped: of the sum over
    /// all ports and the wire ([`Nic::ledger`](super::Nic::ledger)), while nothing is on its way
    /// through the card, this is zero, or the card has lost frames (or, if negative, invented
    /// some):
    ///
    /// `tx_frames` + `segmented_extra` + `flood_extra`
    /// = `rx_frames` + [`dropped`](Self::dropped) - `dropped_carried`.
    pub fn frames_missing(&self) -> i64 {
        let went_in = self.tx_frames + self.segmented_extra + self.flood_extra;
        let dropped = self.dropped().saturating_sub(self.dropped_carried);
        difference(went_in, self.rx_frames + dropped)
    }

    /// The same as [`NicCounters::frames_missing`], for envelopes:
    ///
    /// `tx_envelopes` + `flood_extra_envelopes` = `rx_envelopes` + `dropped_envelopes`.
    pub fn envelopes_missing(&self) -> i64 {
        let went_in = self.tx_envelopes + self.flood_extra_envelopes;
        difference(went_in, self.rx_envelopes + self.dropped_envelopes)
    }

    /// Counts a frame that went into the card.
    pub(super) fn count_tx(&mut self, load: Load) {
        match load {
            Load::Frame => self.tx_frames += 1,
            Load::Envelope(_) => self.tx_envelopes += 1,
        }
    }

    /// Counts a frame that came out of the card.
    pub(super) fn count_rx(&mut self, load: Load) {
        match load {
            Load::Frame => self.rx_frames += 1,
            Load::Envelope(_) => self.rx_envelopes += 1,
        }
    }

    /// Counts copies of a frame beyond the first.
    pub(super) fn count_flood(&mut self, copies: u64, load: Load) {
        match load {
            Load::Frame => self.flood_extra += copies,
            Load::Envelope(_) => self.flood_extra_envelopes += copies,
        }
    }

    /// Counts a dropped frame, or the frames lost with a dropped envelope.
    pub(super) fn drop_frame(&mut self, reason: DropReason, load: Load) {
        let frames = match load {
            Load::Frame => 1,
            Load::Envelope(carried) => {
                self.dropped_envelopes += 1;
                self.dropped_carried += u64::from(carried);
                u64::from(carried)
            }
        };
        *match reason {
            DropReason::Spoofed => &mut self.spoofed,
            DropReason::Vlan => &mut self.vlan,
            DropReason::NoReceiveBuffer => &mut self.no_receive_buffer,
            DropReason::TooLong => &mut self.too_long,
            DropReason::Malformed => &mut self.malformed,
            DropReason::Segmentation => &mut self.segmentation,
            DropReason::NoDestination => &mut self.no_destination,
            DropReason::DmaFault => &mut self.dma_fault,
            DropReason::LinkDown => &mut self.link_down,
            DropReason::WireFull => &mut self.wire_full,
        } += frames;
    }
}

fn difference(went_in: u64, came_out: u64) -> i64 {
    went_in.wrapping_sub(came_out) as i64
}

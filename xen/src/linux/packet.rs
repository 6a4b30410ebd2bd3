//! A packet socket: the queue of a VF in a guest, or of a physical interface in the driver domain.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockType, bind, socket};
use xenvelope_grant::seam::{
    Arrival, Buffer as _, Instant, NicCapabilities, NicError, NicPort, Offload, PortId, Unsent,
};

use super::buffer::Buffer;
use super::clock::Clock;
use super::descriptors::Descriptors as _;
use super::error::XenError;
use super::frame_queues::{FrameQueues, Most};
use super::host::Xen;
use super::sys::{self, Batch};
use super::vnet;

/// Frames of one system call.
const BATCH: usize = 32;
/// Frames that wait for the kernel to take them.
const QUEUE: usize = 256;
/// The longest frame: what receive offload makes of several.
const LONGEST: usize = 65535 + 18;
/// Room that is kept in front of each frame: the kernel takes a VLAN tag out, and it goes back in.
const TAG: usize = 4;
/// Bytes that the kernel keeps for us in each direction.
const SOCKET_BYTES: i32 = 8 << 20;
/// How often the link is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How a packet socket is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PacketConfig {
    /// The network interface.
    pub interface: String,
    /// Whether it takes frames to any address: an uplink of a switch.
    pub promiscuous: bool,
    /// Whether this domain's own stack is kept away from it: no IPv6 of its own accord. The
    /// interface is set up in any case.
    pub quiet: bool,
}

/// A packet socket on one interface.
pub struct PacketPort {
    socket: OwnedFd,
    interface: String,
    mac: [u8; 6],
    host: Xen,
    id: PortId,
    batch: RefCell<Batch<BATCH>>,
    queues: FrameQueues<Buffer>,
    up: Cell<bool>,
    looked_at: Cell<Instant>,
}

impl PacketPort {
    /// Opens a socket on an interface, and sets the interface up.
    pub fn open(host: &Xen, config: &PacketConfig) -> Result<PacketPort, XenError> {
        let name = &config.interface;
        let failed =
            |action| move |cause| XenError::Interface { interface: name.clone(), action, cause };
        let raw = |action| move |error: nix::Error| failed(action)(io::Error::from(error));
        if config.quiet {
            // Without IPv6 in the kernel there is no such file, and nothing to be kept quiet.
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        }
        // Bound before it may receive: protocol 0 until then.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)
            .map_err(raw("no packet socket (are we root?)"))?;
        let fd = socket.as_fd();
        let index = if_nametoindex(name.as_str()).map_err(raw("there is no such interface"))?;
        let set = |level, name, value| {
            sys::set_option(fd, level, name, value)
                .map_err(failed("its packet socket does not take an option"))
        };
        set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BYTES)?;
        set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_BYTES)?;
        sys::set_interface_flags(fd, name, libc::IFF_UP).map_err(failed("cannot be set up"))?;
        let kind =
            if config.promiscuous { libc::PACKET_MR_PROMISC } else { libc::PACKET_MR_ALLMULTI };
        sys::add_membership(fd, index as i32, kind)
            .map_err(failed("does not take frames to others"))?;
        let address = link_address(index).ok_or_else(|| {
            failed("has no address to bind to")(io::ErrorKind::AddrNotAvailable.into())
        })?;
        use std::os::fd::AsRawFd;
        bind(socket.as_raw_fd(), &address).map_err(raw("cannot be bound to"))?;
        let mac = sys::interface_address(fd, name).map_err(failed("has no MAC address"))?;
        let id = host
            .watch_fd(fd)
            .ok_or_else(|| failed("too many descriptors")(io::ErrorKind::QuotaExceeded.into()))?;
        let port = PacketPort {
            socket,
            interface: config.interface.clone(),
            mac,
            host: host.clone(),
            id,
            batch: RefCell::new(Batch::new()),
            queues: FrameQueues::new(Most { posted: BATCH, room: TAG + LONGEST, leaving: QUEUE }),
            up: Cell::new(false),
            looked_at: Cell::new(Instant::default()),
        };
        port.look();
        Ok(port)
    }

    /// The interface's name.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Whether the interface still exists under its name.
    pub fn exists(&self) -> bool {
        if_nametoindex(self.interface.as_str()).is_ok()
    }

    /// Frames that the kernel would not send, and those that came cut off.
    pub fn lost(&self) -> u64 {
        self.queues.lost()
    }

    fn look(&self) {
        let running = libc::IFF_UP | libc::IFF_RUNNING;
        let flags = sys::interface_flags(self.socket.as_fd(), &self.interface);
        self.up.set(flags.is_ok_and(|flags| flags & running == running));
        self.looked_at.set(Clock::coarse().now());
    }

    /// Sends what waits. What the kernel has no room for waits on.
    fn drain(&self) {
        let mut batch = self.batch.borrow_mut();
        loop {
            let leaving = self.queues.leaving.borrow();
            if leaving.is_empty() {
                return;
            }
            let frames = leaving.iter().map(|leaving| {
                let frame = leaving.bytes();
                (vnet::build(&leaving.offload, frame), frame)
            });
            let (sent, all) = (batch.send(self.socket.as_fd(), frames), leaving.len());
            drop(leaving);
            match sent {
                Ok(count) => self.queues.gone(count),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR) => return,
                    Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => {
                        self.look();
                        self.queues.lose(all);
                        self.queues.gone(all);
                    }
                    _ => {
                        // This one frame is not to its liking: it is lost as on a wire.
                        tracing::debug!(interface = self.interface, %error, "frame not sent");
                        self.queues.lose(1);
                        self.queues.gone(1);
                    }
                },
            }
        }
    }

    fn fetch(&self) {
        let mut posted = self.queues.posted.borrow_mut();
        let mut batch = self.batch.borrow_mut();
        let targets = posted.iter_mut().map(|(buffer, headroom)| {
            &mut buffer.stack_bytes_mut()[*headroom + TAG..*headroom + TAG + LONGEST]
        });
        let count = match batch.receive(self.socket.as_fd(), targets) {
            Ok(count) => count,
            Err(error) => {
                if error.raw_os_error() == Some(libc::ENETDOWN) {
                    self.look();
                }
                return;
            }
        };
        let mut arrived = self.queues.arrived.borrow_mut();
        for (index, (mut buffer, headroom)) in posted.drain(..count).enumerate() {
            let received = batch.received(index);
            if received.truncated || received.len < 14 {
                self.queues.lose(1);
                continue;
            }
            let start = headroom + TAG;
            let mut frame = start..start + received.len;
            let mut offload = vnet::parse(&received.header);
            if let Some(tag) = received.tag {
                // The tag goes back behind the addresses.
                let bytes = buffer.stack_bytes_mut();
                bytes.copy_within(start..start + 12, headroom);
                bytes[headroom + 12..headroom + 12 + TAG].copy_from_slice(&tag);
                frame.start = headroom;
                if offload.needs_checksum {
                    offload.checksum_start = offload.checksum_start.saturating_add(TAG as u16);
                }
            }
            arrived.push_back(Arrival { buffer, frame, offload });
        }
    }
}

/// The address of an interface for a packet socket that takes every protocol.
fn link_address(index: u32) -> Option<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    sys::link_address(&address)
}

impl Drop for PacketPort {
    fn drop(&mut self) {
        self.host.unwatch_fd(self.id);
    }
}

impl NicPort for PacketPort {
    type Buf = Buffer;

    fn capabilities(&self) -> NicCapabilities {
        NicCapabilities { mac: self.mac, max_frame: LONGEST, checksum: true }
    }

    fn link(&self) -> bool {
        if Clock::coarse().now().since(self.looked_at.get()) >= LOOK {
            self.look();
        }
        self.up.get()
    }

    fn interrupt(&self) -> PortId {
        self.id
    }

    fn unmask(&self) {
        self.host.unmask_device(self.id);
    }

    fn send(
        &self,
        buffer: Buffer,
        frame: Range<usize>,
        offload: Offload,
    ) -> Result<(), Unsent<Buffer>> {
        // A link comes up some time after the interface was set up, and nobody says so.
        if !self.up.get() && !self.link() {
            return Err(Unsent { cause: NicError::NoLink, buffer });
        }
        if frame.len() > LONGEST {
            return Err(Unsent { cause: NicError::TooLong, buffer });
        }
        self.queues.send(buffer, frame, offload)
    }

    fn kick(&self) {
        self.link();
        self.drain();
    }

    fn completed(&self) -> Option<Buffer> {
        self.queues.completed()
    }

    fn in_flight(&self) -> usize {
        self.queues.in_flight()
    }

    fn wanted(&self) -> (usize, usize) {
        self.queues.wanted()
    }

    fn post(&self, buffer: Buffer, headroom: usize) -> Result<(), Buffer> {
        self.queues.post(buffer, headroom)
    }

    /// A batch is fetched when the last one has been taken: at most 32 frames, until new
    /// buffers are posted.
    fn receive(&self) -> Option<Arrival<Buffer>> {
        self.queues.receive(|| self.fetch())
    }
}

//! A TAP: where this domain's own network stack is, on the other side of the driver.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use xenvelope_grant::seam::{
    Arrival, Buffer as _, Granter, NicCapabilities, NicPort, Offload, PortId, StackPort, Unsent,
};

use super::descriptors::Descriptors;
use super::error::XenError;
use super::frame_queues::{FrameQueues, Most};
use super::host::Xen;
use super::sys::Exchange;
use super::{sys, vnet};

/// `TUN_F_CSUM`, `TUN_F_TSO4`, `TUN_F_TSO6` (`include/uapi/linux/if_tun.h`).
const CSUM: u32 = 1;
const TSO: u32 = 2 | 4;
/// Turns in which a TAP that had nothing is not read. (A wait says when it has something.)
const PATIENCE: u8 = 8;
/// Receive buffers that are kept ready: frames that are read before they are passed on.
const READY: usize = 64;
/// The longest frame that the kernel hands over: 64 KiB of IP packet and a header with a tag.
const LONGEST: usize = 65535 + 18;

/// How a TAP is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapConfig {
    /// Its name: 1 to 15 characters. It is made if there is none.
    pub name: String,
    /// Its MAC address, if it is to have a certain one.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// Whether it stays when nobody has it open.
    pub persistent: bool,
    /// What the stack may leave undone.
    pub offloads: TapOffloads,
    /// Whether it is set up.
    pub up: bool,
}

/// What a stack may leave undone in frames that it sends to a TAP. It takes frames of either kind,
/// whatever it may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TapOffloads {
    /// Nothing: frames are whole.
    Nothing,
    /// Transport checksums.
    Checksum,
    /// Transport checksums, and to cut TCP segments longer than the MTU.
    Segments,
}

impl TapOffloads {
    fn flags(self) -> u32 {
        match self {
            TapOffloads::Nothing => 0,
            TapOffloads::Checksum => CSUM,
            TapOffloads::Segments => CSUM | TSO,
        }
    }
}

/// A TAP in the hands of a domain. `send` is towards the stack of this domain, `receive` is what that stack has sent.
pub struct Tap<H: Descriptors + Granter = Xen> {
    file: File,
    name: String,
    mac: [u8; 6],
    host: H,
    id: PortId,
    exchange: Box<RefCell<Exchange>>,
    queues: FrameQueues<H::Buf>,
    gone: Cell<bool>,
    /// How many more times it is not read: reading nothing is a system call too.
    skip: Cell<u8>,
}

impl<H: Descriptors + Granter + Clone> Tap<H> {
    /// Opens a TAP in the network namespace of this thread, and makes it if there is none of that
    /// name.
    pub fn open(host: &H, config: &TapConfig) -> Result<Tap<H>, XenError> {
        let name = &config.name;
        let failed =
            |action| move |cause| XenError::Interface { interface: name.clone(), action, cause };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(|cause| XenError::Device { path: "/dev/net/tun", module: "tun", cause })?;
        let offloads = config.offloads.flags();
        sys::set_tap(&file, name, offloads).map_err(failed("cannot be made a TAP of ours"))?;
        sys::set_persistent(&file, config.persistent).map_err(failed("cannot be made to stay"))?;
        let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|error| failed("no socket")(error.into()))?;
        let control = control.as_fd();
        if let Some(mac) = config.mac
            && sys::interface_address(control, name).ok() != Some(mac)
        {
            sys::set_interface_address(control, name, mac)
                .map_err(failed("does not take its MAC address"))?;
        }
        sys::set_interface_mtu(control, name, config.mtu)
            .map_err(failed("does not take its MTU"))?;
        if config.up {
            sys::set_interface_flags(control, name, libc::IFF_UP)
                .map_err(failed("cannot be set up"))?;
        }
        let mac = sys::interface_address(control, name).map_err(failed("has no MAC address"))?;
        let exchange =
            Exchange::new().map_err(failed("io_uring (Linux 5.1 or later) is not to be had"))?;
        let id = host.watch_fd(file.as_fd()).ok_or_else(|| {
            failed("too many descriptors")(std::io::ErrorKind::QuotaExceeded.into())
        })?;
        Ok(Tap {
            file,
            name: config.name.clone(),
            mac,
            host: host.clone(),
            id,
            exchange: Box::new(RefCell::new(exchange)),
            queues: FrameQueues::new(Most { posted: READY, room: LONGEST, leaving: sys::FRAMES }),
            gone: Cell::new(false),
            skip: Cell::new(0),
        })
    }
}

impl<H: Descriptors + Granter> Tap<H> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Frames that were sent, and that the stack did not take. Those of [`StackPort::exchange`] are
    /// the caller's to count.
    pub fn lost(&self) -> u64 {
        self.queues.lost()
    }

    /// EBADFD: somebody has deleted it.
    fn note(&self, error: &std::io::Error) {
        self.gone.set(error.raw_os_error() == Some(libc::EBADFD));
        if error.raw_os_error() != Some(libc::EAGAIN) {
            tracing::debug!(tap = self.name, %error, "no frame to or from the stack");
        }
    }
}

impl<H: Descriptors + Granter> Drop for Tap<H> {
    fn drop(&mut self) {
        self.host.unwatch_fd(self.id);
    }
}

impl<H: Descriptors + Granter> NicPort for Tap<H> {
    type Buf = H::Buf;

    fn capabilities(&self) -> NicCapabilities {
        NicCapabilities { mac: self.mac, max_frame: LONGEST, checksum: true }
    }

    fn link(&self) -> bool {
        !self.gone.get()
    }

    fn interrupt(&self) -> PortId {
        self.id
    }

    /// Not needed before [`Tap::receive`], which does it when it finds nothing.
    fn unmask(&self) {
        self.skip.set(0);
        self.host.unmask_device(self.id);
    }

    fn send(
        &self,
        buffer: H::Buf,
        frame: Range<usize>,
        offload: Offload,
    ) -> Result<(), Unsent<H::Buf>> {
        self.queues.send(buffer, frame, offload)
    }

    /// Frames that the stack does not take are lost as on a wire.
    fn kick(&self) {
        let leaving = self.queues.leaving.borrow();
        let all = leaving.len();
        if all > 0 {
            let frames = leaving.iter().map(|leaving| (leaving.bytes(), leaving.offload));
            let (taken, _) = self.exchange(frames);
            drop(leaving);
            self.queues.lose(all - taken);
            self.queues.gone(all);
        }
    }

    fn completed(&self) -> Option<H::Buf> {
        self.queues.completed()
    }

    fn in_flight(&self) -> usize {
        self.queues.in_flight()
    }

    fn wanted(&self) -> (usize, usize) {
        self.queues.wanted()
    }

    fn post(&self, buffer: H::Buf, headroom: usize) -> Result<(), H::Buf> {
        self.queues.post(buffer, headroom)
    }

    fn receive(&self) -> Option<Arrival<H::Buf>> {
        self.queues.receive(|| {
            let skip = self.skip.get();
            if skip > 0 && !self.host.has_fired(self.id) {
                self.skip.set(skip - 1);
            } else {
                self.exchange(std::iter::empty());
            }
        })
    }
}

impl<H: Descriptors + Granter> StackPort for Tap<H> {
    fn exchange<'f>(&self, frames: impl Iterator<Item = (&'f [u8], Offload)>) -> (usize, usize) {
        let frames = frames.map(|(frame, offload)| (vnet::build(&offload, frame), frame));
        let mut posted = self.queues.posted.borrow_mut();
        let mut exchange = self.exchange.borrow_mut();
        // Only as many as can be handed out before the next call.
        let free = READY.saturating_sub(self.queues.arrived.borrow().len());
        let targets = posted.iter_mut().take(free).map(|(buffer, headroom)| {
            &mut buffer.stack_bytes_mut()[*headroom..*headroom + LONGEST]
        });
        let count = exchange.run(&self.file, frames, targets);
        let mut refused = 0;
        for index in 0..count.written {
            if let Err(error) = exchange.written(index) {
                self.note(&error);
                refused += 1;
            }
        }
        let mut arrived = self.queues.arrived.borrow_mut();
        let before = arrived.len();
        for index in 0..count.read {
            let Some((buffer, headroom)) = posted.pop_front() else { break };
            match exchange.read(index) {
                Ok((len, header)) if len > 0 => {
                    let frame = headroom..headroom + len;
                    arrived.push_back(Arrival { buffer, frame, offload: vnet::parse(&header) });
                }
                other => {
                    if let Err(error) = other {
                        self.note(&error);
                    }
                    posted.push_back((buffer, headroom));
                }
            }
        }
        if arrived.len() < before + count.read {
            // It has been emptied.
            self.skip.set(PATIENCE);
            self.host.unmask_device(self.id);
        }
        (count.written - refused, refused)
    }
}

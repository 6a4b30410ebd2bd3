//! A TAP: where this domain's own network stack is, on the other side of the driver.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use xenvelope_grant::seam::{
    Arrival, Buffer as _, NicCapabilities, NicError, NicPort, Offload, PortId, Unsent,
};

use super::buffer::Buffer;
use super::error::XenError;
use super::host::Xen;
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
    /// Whether the stack may hand over TCP segments longer than the MTU.
    pub tso: bool,
    /// Whether it is set up.
    pub up: bool,
}

/// A TAP. `send` is towards the stack of this domain, `receive` is what that stack has sent.
pub struct Tap {
    file: File,
    name: String,
    mac: [u8; 6],
    host: Xen,
    id: PortId,
    posted: RefCell<VecDeque<(Buffer, usize)>>,
    sent: RefCell<VecDeque<Buffer>>,
    gone: Cell<bool>,
    /// How many more times it is not read: reading nothing is a system call too.
    skip: Cell<u8>,
}

impl Tap {
    /// Opens a TAP, and makes it if there is none of that name.
    pub fn open(host: &Xen, config: &TapConfig) -> Result<Tap, XenError> {
        let name = &config.name;
        let failed =
            |action| move |cause| XenError::Interface { interface: name.clone(), action, cause };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")
            .map_err(|cause| XenError::Device { path: "/dev/net/tun", module: "tun", cause })?;
        let offloads = if config.tso { CSUM | TSO } else { CSUM };
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
        let id = host.watch_fd(file.as_fd()).ok_or_else(|| {
            failed("too many descriptors")(std::io::ErrorKind::QuotaExceeded.into())
        })?;
        Ok(Tap {
            file,
            name: config.name.clone(),
            mac,
            host: host.clone(),
            id,
            // As much as it ever holds: nothing is allocated for a frame.
            posted: RefCell::new(VecDeque::with_capacity(READY)),
            sent: RefCell::new(VecDeque::with_capacity(READY)),
            gone: Cell::new(false),
            skip: Cell::new(0),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands one frame to the stack. Whether it took it: not if it is down, or has no room.
    pub fn write(&self, frame: &[u8], offload: Offload) -> bool {
        let header = vnet::build(&offload, frame);
        let mut file = &self.file;
        match file.write_vectored(&[IoSlice::new(&header), IoSlice::new(frame)]) {
            // A frame is taken whole or not at all.
            Ok(len) => {
                // The stack may have answered.
                self.skip.set(0);
                len > 0
            }
            Err(error) => {
                // EBADFD: somebody has deleted it.
                self.gone.set(error.raw_os_error() == Some(libc::EBADFD));
                tracing::trace!(tap = self.name, %error, len = frame.len(), "frame not taken");
                false
            }
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.host.unwatch_fd(self.id);
    }
}

impl NicPort for Tap {
    type Buf = Buffer;

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

    /// The stack takes it at once: a TAP has no call for more than one frame.
    fn send(
        &self,
        buffer: Buffer,
        frame: Range<usize>,
        offload: Offload,
    ) -> Result<(), Unsent<Buffer>> {
        if !self.write(&buffer.stack_bytes()[frame], offload) {
            return Err(Unsent { cause: NicError::NoLink, buffer });
        }
        self.sent.borrow_mut().push_back(buffer);
        Ok(())
    }

    fn kick(&self) {}

    fn completed(&self) -> Option<Buffer> {
        self.sent.borrow_mut().pop_front()
    }

    fn in_flight(&self) -> usize {
        self.sent.borrow().len()
    }

    fn wanted(&self) -> (usize, usize) {
        (READY - self.posted.borrow().len(), LONGEST)
    }

    fn post(&self, buffer: Buffer, headroom: usize) -> Result<(), Buffer> {
        let mut posted = self.posted.borrow_mut();
        if posted.len() >= READY || buffer.capacity() < headroom + LONGEST {
            return Err(buffer);
        }
        posted.push_back((buffer, headroom));
        Ok(())
    }

    fn receive(&self) -> Option<Arrival<Buffer>> {
        let skip = self.skip.get();
        if skip > 0 && !self.host.has_fired(self.id) {
            self.skip.set(skip - 1);
            return None;
        }
        let mut posted = self.posted.borrow_mut();
        let (mut buffer, headroom) = posted.pop_front()?;
        let mut header = [0; vnet::HEADER];
        let mut file = &self.file;
        let read = {
            let frame = &mut buffer.stack_bytes_mut()[headroom..headroom + LONGEST];
            file.read_vectored(&mut [IoSliceMut::new(&mut header), IoSliceMut::new(frame)])
        };
        match read {
            Ok(len) if len > vnet::HEADER => {
                let frame = headroom..headroom + len - vnet::HEADER;
                Some(Arrival { buffer, frame, offload: vnet::parse(&header) })
            }
            other => {
                let error = other.err().and_then(|error| error.raw_os_error());
                self.gone.set(error == Some(libc::EBADFD));
                self.skip.set(PATIENCE);
                self.host.unmask_device(self.id);
                posted.push_front((buffer, headroom));
                None
            }
        }
    }
}

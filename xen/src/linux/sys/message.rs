//! Packet sockets: many frames with one call.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc::{self, c_int, c_uint, iovec, mmsghdr, packet_mreq, tpacket_auxdata};
use nix::sys::socket::{LinkAddr, SockaddrLike as _};

use crate::linux::vnet::HEADER;

/// Bytes for one `PACKET_AUXDATA` message.
const CONTROL: usize = 64;

/// What the kernel says of a frame that came in.
#[derive(Clone, Copy)]
pub(in crate::linux) struct Received {
    /// Bytes of the frame.
    pub len: usize,
    /// `struct virtio_net_hdr`.
    pub header: [u8; HEADER],
    /// The VLAN tag that the card or the kernel took out, as it was in the frame: a customer's
    /// or a provider's (`TPID`, then tag control).
    pub tag: Option<[u8; 4]>,
    /// It did not fit.
    pub truncated: bool,
}

/// What `recvmmsg` and `sendmmsg` need for up to `N` frames, kept from one call to the next.
pub(in crate::linux) struct Batch<const N: usize> {
    messages: Box<[mmsghdr; N]>,
    vectors: Box<[[iovec; 2]; N]>,
    headers: Box<[[u8; HEADER]; N]>,
    controls: Box<[[u64; CONTROL / 8]; N]>,
}

const NOWHERE: iovec = iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

impl<const N: usize> Batch<N> {
    pub fn new() -> Self {
        // SAFETY: a `mmsghdr` of zeroes names no memory.
        let message: mmsghdr = unsafe { std::mem::zeroed() };
        Batch {
            messages: Box::new([message; N]),
            vectors: Box::new([[NOWHERE; 2]; N]),
            headers: Box::new([[0; HEADER]; N]),
            controls: Box::new([[0; CONTROL / 8]; N]),
        }
    }

    fn place(&mut self, index: usize, bytes: *mut u8, len: usize) {
        let header = iovec { iov_base: self.headers[index].as_mut_ptr().cast(), iov_len: HEADER };
        self.vectors[index] = [header, iovec { iov_base: bytes.cast(), iov_len: len }];
        let message = &mut self.messages[index];
        message.msg_len = 0;
        message.msg_hdr.msg_iov = self.vectors[index].as_mut_ptr();
        message.msg_hdr.msg_iovlen = 2;
        message.msg_hdr.msg_control = std::ptr::null_mut();
        message.msg_hdr.msg_controllen = 0;
        message.msg_hdr.msg_flags = 0;
    }

    /// Receives up to `N` frames into `targets`, without waiting. How many.
    pub fn receive<'t>(
        &mut self,
        socket: BorrowedFd<'_>,
        targets: impl Iterator<Item = &'t mut [u8]>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for target in targets.take(N) {
            self.place(count, target.as_mut_ptr(), target.len());
            let message = &mut self.messages[count].msg_hdr;
            message.msg_control = self.controls[count].as_mut_ptr().cast();
            message.msg_controllen = CONTROL as _;
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` messages name the targets, which are borrowed exclusively
        // until this function returns, and arrays of ours.
        let got = unsafe {
            let flags = libc::MSG_DONTWAIT;
            let messages = self.messages.as_mut_ptr();
            let none = std::ptr::null_mut();
            libc::recvmmsg(socket.as_raw_fd(), messages, count as c_uint, flags as _, none)
        };
        usize::try_from(got).map_err(|_| io::Error::last_os_error())
    }

    /// What came by message `index` of the last [`Batch::receive`].
    pub fn received(&self, index: usize) -> Received {
        let message = &self.messages[index];
        let mut tag = None;
        // SAFETY: the kernel has filled the message and its control buffer, which is ours and
        // aligned; the macros stay inside `msg_controllen`.
        unsafe {
            let mut control = libc::CMSG_FIRSTHDR(&raw const message.msg_hdr);
            while !control.is_null() {
                let head = &*control;
                let whole =
                    head.cmsg_len >= libc::CMSG_LEN(size_of::<tpacket_auxdata>() as u32) as _;
                if (head.cmsg_level, head.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA)
                    && whole
                {
                    let data = libc::CMSG_DATA(control).cast::<tpacket_auxdata>().read_unaligned();
                    if data.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        tag = Some(tag_of(&data));
                    }
                }
                control = libc::CMSG_NXTHDR(&raw const message.msg_hdr, control);
            }
        }
        Received {
            len: (message.msg_len as usize).saturating_sub(HEADER),
            header: self.headers[index],
            tag,
            truncated: message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        }
    }

    /// Sends up to `N` frames, each with its `virtio_net_hdr`, without waiting. How many went.
    pub fn send<'f>(
        &mut self,
        socket: BorrowedFd<'_>,
        frames: impl Iterator<Item = ([u8; HEADER], &'f [u8])>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (header, frame) in frames.take(N) {
            self.headers[count] = header;
            // Only read from: `sendmmsg` takes the same structure as `recvmmsg`.
            self.place(count, frame.as_ptr().cast_mut(), frame.len());
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        // SAFETY: the first `count` messages name the frames, which are borrowed until this
        // function returns, and headers of ours.
        let sent = unsafe {
            let messages = self.messages.as_mut_ptr();
            let flags = libc::MSG_DONTWAIT;
            libc::sendmmsg(socket.as_raw_fd(), messages, count as c_uint, flags as _)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// The tag that the kernel took out. It takes out providers' tags too; put back as a customer's,
/// one would name a VLAN that nobody let its sender into.
fn tag_of(data: &tpacket_auxdata) -> [u8; 4] {
    let known = data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
    let tpid = if known { data.tp_vlan_tpid } else { libc::ETH_P_8021Q as u16 };
    let ([a, b], [c, d]) = (tpid.to_be_bytes(), data.tp_vlan_tci.to_be_bytes());
    [a, b, c, d]
}

/// An address as nix has it.
pub(in crate::linux) fn link_address(address: &libc::sockaddr_ll) -> Option<LinkAddr> {
    let len = size_of_val(address) as libc::socklen_t;
    // SAFETY: a whole `sockaddr_ll`, of the family that it says.
    unsafe { LinkAddr::from_raw(std::ptr::from_ref(address).cast(), Some(len)) }
}

/// `setsockopt` with a plain value.
pub(in crate::linux) fn set_option(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    option(socket, level, name, &value)
}

/// Has a packet socket's interface take more than its own frames: `PACKET_MR_*`.
pub(in crate::linux) fn add_membership(
    socket: BorrowedFd<'_>,
    interface: c_int,
    kind: c_int,
) -> io::Result<()> {
    let request =
        packet_mreq { mr_ifindex: interface, mr_type: kind as _, mr_alen: 0, mr_address: [0; 8] };
    option(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

fn option<T>(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of a plain structure.
    let result = unsafe {
        let value = std::ptr::from_ref(value).cast();
        libc::setsockopt(socket.as_raw_fd(), level, name, value, len)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_batch_is_received_as_it_was_sent() {
        let (one, other) = UnixDatagram::pair().unwrap();
        let mut batch = Batch::<4>::new();
        let frames = [&b"first"[..], b"second", b"longer than its place", b"4", b"too many"];
        let all = frames.iter().zip(1..).map(|(frame, number)| ([number; HEADER], *frame));
        assert_eq!(batch.send(one.as_fd(), all).unwrap(), 4);

        let mut places = [[0; 10]; 8];
        let targets = places.iter_mut().map(|place| &mut place[..]);
        assert_eq!(batch.receive(other.as_fd(), targets).unwrap(), 4);
        for (index, frame) in frames[..4].iter().enumerate() {
            let got = batch.received(index);
            let len = frame.len().min(10);
            assert_eq!((got.len, got.truncated), (len, frame.len() > 10), "{index}");
            assert_eq!(got.header, [index as u8 + 1; HEADER]);
            assert_eq!(got.tag, None);
            assert_eq!(places[index][..len], frame[..len]);
        }
        let targets = places.iter_mut().map(|place| &mut place[..]);
        let nothing = batch.receive(other.as_fd(), targets).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(batch.receive(other.as_fd(), std::iter::empty()).unwrap(), 0);
    }
}

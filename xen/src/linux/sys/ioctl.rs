//! Calls on Xen's devices, on `/dev/net/tun`, and on network interfaces.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc::{self, c_int, c_ulong, c_void};
use xenvelope_grant::{DomId, Gref};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::evtchn::{self, BindInterdomain, BindUnboundPort};
use crate::gntalloc::{self, Dealloc};
use crate::gntdev::{self, GrantCopy, GrantCopySegment, UnmapGrantRef};

/// A call with a structure that the kernel reads and may write.
fn call<T: FromBytes + IntoBytes + Immutable>(
    device: &File,
    number: u32,
    argument: &mut T,
) -> io::Result<c_int> {
    // SAFETY: the numbers in this module belong to structures of type `T`, which hold no
    // pointers but the one in `grant_copy`, whose caller answers for it; any bytes that the kernel writes are a valid `T`.
    unsafe { raw(device.as_raw_fd(), c_ulong::from(number), std::ptr::from_mut(argument).cast()) }
}

/// # Safety
/// `argument` is what the call `number` expects.
unsafe fn raw(fd: c_int, number: c_ulong, argument: *mut c_void) -> io::Result<c_int> {
    // SAFETY: by the caller's promise.
    let result = unsafe { libc::ioctl(fd, number, argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A structure with an array at its end, in 64-bit words so that it is aligned.
fn words_for(head: usize, count: usize, each: usize) -> Vec<u64> {
    vec![0; (head + count * each).div_ceil(8)]
}

/// The kernel reads and writes the structure with one reference in it, however many it is to have.
fn some(refs: &[Gref]) -> io::Result<()> {
    if refs.is_empty() { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
}

/// Allocates `refs.len()` pages, granted to `to`. The offset at which they can be mapped.
pub(in crate::linux) fn alloc_grefs(
    device: &File,
    to: DomId,
    writable: bool,
    refs: &mut [Gref],
) -> io::Result<u64> {
    some(refs)?;
    // struct ioctl_gntalloc_alloc_gref: domid, flags, count, index, gref_ids[].
    let mut words = words_for(16, refs.len(), 4);
    let bytes = words.as_mut_bytes();
    let flags = if writable { gntalloc::WRITABLE } else { 0 };
    bytes[0..2].copy_from_slice(&to.0.to_ne_bytes());
    bytes[2..4].copy_from_slice(&flags.to_ne_bytes());
    bytes[4..8].copy_from_slice(&(refs.len() as u32).to_ne_bytes());
    let number = c_ulong::from(gntalloc::ALLOC);
    // SAFETY: the buffer has room for as many references as `count` says, and for one at least.
    unsafe { raw(device.as_raw_fd(), number, words.as_mut_ptr().cast()) }?;
    let bytes = words.as_bytes();
    for (gref, id) in refs.iter_mut().zip(bytes[16..].as_chunks::<4>().0) {
        *gref = Gref(u32::from_ne_bytes(*id));
    }
    Ok(words[1])
}

/// Frees pages of gntalloc's.
pub(in crate::linux) fn dealloc_grefs(device: &File, index: u64, count: u32) -> io::Result<()> {
    call(device, gntalloc::DEALLOC, &mut Dealloc { index, count, pad: 0 }).map(drop)
}

/// Makes pages of `from`'s mappable. The offset at which they can be mapped.
pub(in crate::linux) fn map_grants(device: &File, from: DomId, refs: &[Gref]) -> io::Result<u64> {
    some(refs)?;
    // struct ioctl_gntdev_map_grant_ref: count, pad, index, {domid, ref}[].
    let mut words = words_for(16, refs.len(), 8);
    words[0] = refs.len() as u64;
    for (word, gref) in words[2..].iter_mut().zip(refs) {
        *word = u64::from(gref.0) << 32 | u64::from(from.0);
    }
    let number = c_ulong::from(gntdev::MAP_GRANT_REF);
    // SAFETY: the buffer has as many references as `count` says, and one at least.
    unsafe { raw(device.as_raw_fd(), number, words.as_mut_ptr().cast()) }?;
    Ok(words[1])
}

/// Forgets pages of another domain's that are not mapped any more.
pub(in crate::linux) fn unmap_grants(device: &File, index: u64, count: u32) -> io::Result<()> {
    call(device, gntdev::UNMAP_GRANT_REF, &mut UnmapGrantRef { index, count, pad: 0 }).map(drop)
}

/// Carries out copies.
///
/// # Safety
/// The local ends of the segments are memory that stays mapped, and that nobody else touches, for
/// the time of the call.
pub(super) unsafe fn grant_copy(
    device: &File,
    segments: &mut [GrantCopySegment],
) -> io::Result<()> {
    let count = segments.len() as u32;
    let mut argument = GrantCopy { count, pad: 0, segments: segments.as_mut_ptr() as u64 };
    call(device, gntdev::GRANT_COPY, &mut argument).map(drop)
}

/// A port of ours that `peer` may connect to.
pub(in crate::linux) fn bind_unbound(device: &File, peer: DomId) -> io::Result<u32> {
    let mut argument = BindUnboundPort { remote_domain: u32::from(peer.0) };
    Ok(call(device, evtchn::BIND_UNBOUND_PORT, &mut argument)? as u32)
}

/// A port of ours, connected to a port of `peer`'s.
pub(in crate::linux) fn bind_interdomain(
    device: &File,
    peer: DomId,
    remote_port: u32,
) -> io::Result<u32> {
    let mut argument = BindInterdomain { remote_domain: u32::from(peer.0), remote_port };
    Ok(call(device, evtchn::BIND_INTERDOMAIN, &mut argument)? as u32)
}

/// Closes a port.
pub(in crate::linux) fn unbind(device: &File, port: u32) -> io::Result<()> {
    call(device, evtchn::UNBIND, &mut evtchn::Port { port }).map(drop)
}

/// Sends an event.
pub(in crate::linux) fn notify(device: &File, port: u32) -> io::Result<()> {
    call(device, evtchn::NOTIFY, &mut evtchn::Port { port }).map(drop)
}

/// Empties the ring of fired ports after it has overflowed.
pub(in crate::linux) fn reset_ports(device: &File) -> io::Result<()> {
    // SAFETY: this call takes no argument.
    unsafe { raw(device.as_raw_fd(), c_ulong::from(evtchn::RESET), std::ptr::null_mut()) }.map(drop)
}

/// `struct ifreq` (`include/uapi/linux/if.h`): a name and a union of 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
pub(in crate::linux) struct Interface {
    name: [u8; libc::IFNAMSIZ],
    value: [u64; 3],
}

const _: () = assert!(size_of::<Interface>() == size_of::<libc::ifreq>());

impl Interface {
    /// The request for the interface of that name.
    pub fn named(name: &str) -> io::Result<Interface> {
        let mut request = Interface::new_zeroed();
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['/', '\0']) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an interface's name has 1 to 15 characters, without a slash",
            ));
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }
}

/// A call with `value` for the interface of that name. What the kernel made of the request.
fn interface_call(
    socket: BorrowedFd<'_>,
    number: c_ulong,
    name: &str,
    value: &[u8],
) -> io::Result<Interface> {
    let mut request = Interface::named(name)?;
    request.value.as_mut_bytes()[..value.len()].copy_from_slice(value);
    // SAFETY: the calls in this module that are made by this function take a `struct ifreq`
    // without pointers.
    unsafe { raw(socket.as_raw_fd(), number, std::ptr::from_mut(&mut request).cast()) }?;
    Ok(request)
}

/// Makes `tun` the TAP of that name, with `struct virtio_net_hdr` in front of each frame and the
/// offloads `TUN_F_*`.
pub(in crate::linux) fn set_tap(tun: &File, name: &str, offloads: u32) -> io::Result<()> {
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
    use std::os::fd::AsFd;
    interface_call(tun.as_fd(), libc::TUNSETIFF as c_ulong, name, &flags.to_ne_bytes())?;
    let mut header = super::super::vnet::HEADER as c_int;
    // SAFETY: takes a pointer to an int.
    unsafe {
        let argument = std::ptr::from_mut(&mut header).cast();
        raw(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ as c_ulong, argument)
    }?;
    // SAFETY: takes the value itself.
    unsafe {
        let value = offloads as usize as *mut c_void;
        raw(tun.as_raw_fd(), libc::TUNSETOFFLOAD as c_ulong, value)
    }?;
    Ok(())
}

/// Whether the TAP stays when nobody has it open.
pub(in crate::linux) fn set_persistent(tun: &File, persistent: bool) -> io::Result<()> {
    let value = usize::from(persistent) as *mut c_void;
    // SAFETY: takes the value itself.
    unsafe { raw(tun.as_raw_fd(), libc::TUNSETPERSIST as c_ulong, value) }.map(drop)
}

/// `IFF_*` of an interface.
pub(in crate::linux) fn interface_flags(socket: BorrowedFd<'_>, name: &str) -> io::Result<c_int> {
    let answer = interface_call(socket, libc::SIOCGIFFLAGS as c_ulong, name, &[])?;
    let bytes = answer.value.as_bytes();
    Ok(c_int::from(i16::from_ne_bytes([bytes[0], bytes[1]])))
}

/// Sets `IFF_*` of an interface beside those that it has.
pub(in crate::linux) fn set_interface_flags(
    socket: BorrowedFd<'_>,
    name: &str,
    add: c_int,
) -> io::Result<()> {
    let flags = (interface_flags(socket, name)? | add) as i16;
    let number = libc::SIOCSIFFLAGS as c_ulong;
    interface_call(socket, number, name, &flags.to_ne_bytes()).map(drop)
}

/// Sets the MTU of an interface.
pub(in crate::linux) fn set_interface_mtu(
    socket: BorrowedFd<'_>,
    name: &str,
    mtu: u16,
) -> io::Result<()> {
    let mtu = c_int::from(mtu).to_ne_bytes();
    interface_call(socket, libc::SIOCSIFMTU as c_ulong, name, &mtu).map(drop)
}

/// The MAC address of an interface.
pub(in crate::linux) fn interface_address(
    socket: BorrowedFd<'_>,
    name: &str,
) -> io::Result<[u8; 6]> {
    let answer = interface_call(socket, libc::SIOCGIFHWADDR as c_ulong, name, &[])?;
    let mut mac = [0; 6];
    // struct sockaddr: a family of 16 bits, then the address.
    mac.copy_from_slice(&answer.value.as_bytes()[2..8]);
    Ok(mac)
}

/// Sets the MAC address of an interface.
pub(in crate::linux) fn set_interface_address(
    socket: BorrowedFd<'_>,
    name: &str,
    mac: [u8; 6],
) -> io::Result<()> {
    let mut address = [0; 8];
    address[..2].copy_from_slice(&libc::ARPHRD_ETHER.to_ne_bytes());
    address[2..].copy_from_slice(&mac);
    interface_call(socket, libc::SIOCSIFHWADDR as c_ulong, name, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel writes 24 bytes; a structure without a reference has 16.
    #[test]
    fn no_pages_are_never_asked_for() {
        let device = File::open("/dev/null").unwrap();
        let none = io::ErrorKind::InvalidInput;
        let error = alloc_grefs(&device, DomId(1), true, &mut []).unwrap_err();
        assert_eq!(error.kind(), none);
        assert_eq!(map_grants(&device, DomId(1), &[]).unwrap_err().kind(), none);
    }

    #[test]
    fn names_of_interfaces() {
        for name in ["", "sixteen-letters!", "a/b", "a\0b"] {
            assert!(Interface::named(name).is_err(), "{name:?}");
        }
        assert!(Interface::named("fifteen-letters").is_ok());
    }
}

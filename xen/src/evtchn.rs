//! `/dev/xen/evtchn` (`include/uapi/xen/evtchn.h`): event channels. Reading gives ports that
//! fired, masked; writing a port unmasks it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::number::number;

/// `struct ioctl_evtchn_bind_interdomain`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindInterdomain {
    /// Whose port.
    pub remote_domain: u32,
    /// Which.
    pub remote_port: u32,
}

/// `struct ioctl_evtchn_bind_unbound_port`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BindUnboundPort {
    /// Who may connect.
    pub remote_domain: u32,
}

/// `struct ioctl_evtchn_unbind` and `struct ioctl_evtchn_notify`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Port {
    /// Which.
    pub port: u32,
}

/// `IOCTL_EVTCHN_BIND_INTERDOMAIN`.
pub const BIND_INTERDOMAIN: u32 = number::<BindInterdomain>(b'E', 1);
/// `IOCTL_EVTCHN_BIND_UNBOUND_PORT`.
pub const BIND_UNBOUND_PORT: u32 = number::<BindUnboundPort>(b'E', 2);
/// `IOCTL_EVTCHN_UNBIND`.
pub const UNBIND: u32 = number::<Port>(b'E', 3);
/// `IOCTL_EVTCHN_NOTIFY`.
pub const NOTIFY: u32 = number::<Port>(b'E', 4);
/// `IOCTL_EVTCHN_RESET`.
pub const RESET: u32 = number::<()>(b'E', 5);

const _: () = {
    assert!(BIND_INTERDOMAIN == 0x08_4501);
    assert!(BIND_UNBOUND_PORT == 0x04_4502);
    assert!(UNBIND == 0x04_4503);
    assert!(NOTIFY == 0x04_4504);
    assert!(RESET == 0x4505);
};

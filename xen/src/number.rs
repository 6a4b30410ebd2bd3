//! Numbers of ioctls that say neither read nor write (`_IOC_NONE`), as Xen's devices have them:
//! `size << 16 | type << 8 | number` (`include/uapi/asm-generic/ioctl.h`).

use core::mem::size_of;

/// The number of a call whose argument is `T`.
pub(crate) const fn number<T>(kind: u8, nr: u8) -> u32 {
    (size_of::<T>() as u32) << 16 | (kind as u32) << 8 | nr as u32
}

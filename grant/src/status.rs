//! `GNTST_*` status codes (`xen/include/public/grant_table.h`) as a typed error.

use thiserror::Error;

/// The status word of one grant operation, as the hypervisor writes it: 0 or a negative code.
///
/// It is set to [`Status::PENDING`] before a batch is posted: a call that was cut short leaves
/// operations that nobody has done, and their status must not read as success (XSA-318).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub i16);

impl Status {
    /// `GNTST_okay`.
    pub const OKAY: Status = Status(0);
    /// Not a code of Xen's: the operation has not been done yet.
    pub const PENDING: Status = Status(1);

    /// The status as a result. Any value that is not 0 is an error, positive ones too: a
    /// back-end that took only negative values for errors crashed (XSA-316).
    pub const fn check(self) -> Result<(), GrantError> {
        match self.0 {
            0 => Ok(()),
            code => Err(GrantError::from_code(code)),
        }
    }
}

/// Why a grant operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum GrantError {
    /// `GNTST_general_error` (-1): wrong domid or type, a read-only entry, or pinned too often.
    #[error("the entry does not permit this access (GNTST_general_error)")]
    General,
    /// `GNTST_bad_domain` (-2).
    #[error("no such domain (GNTST_bad_domain)")]
    BadDomain,
    /// `GNTST_bad_gntref` (-3): the reference is beyond the table.
    #[error("grant reference out of range (GNTST_bad_gntref)")]
    BadRef,
    /// `GNTST_bad_handle` (-4).
    #[error("unknown mapping handle (GNTST_bad_handle)")]
    BadHandle,
    /// `GNTST_bad_virt_addr` (-5).
    #[error("bad virtual address (GNTST_bad_virt_addr)")]
    BadVirtAddr,
    /// `GNTST_bad_dev_addr` (-6).
    #[error("bad device address (GNTST_bad_dev_addr)")]
    BadDevAddr,
    /// `GNTST_no_device_space` (-7).
    #[error("no room in the I/O MMU (GNTST_no_device_space)")]
    NoDeviceSpace,
    /// `GNTST_permission_denied` (-8).
    #[error("not enough privilege (GNTST_permission_denied)")]
    PermissionDenied,
    /// `GNTST_bad_page` (-9).
    #[error("the granted frame cannot be used (GNTST_bad_page)")]
    BadPage,
    /// `GNTST_bad_copy_arg` (-10): a copy that crosses a page.
    #[error("the copy crosses a page boundary (GNTST_bad_copy_arg)")]
    BadCopyArg,
    /// `GNTST_address_too_big` (-11).
    #[error("the frame's address is too big (GNTST_address_too_big)")]
    TooBig,
    /// `GNTST_eagain` (-12).
    #[error("the frame is paged out, try again (GNTST_eagain)")]
    Again,
    /// `GNTST_no_space` (-13): no room in a table of the hypervisor's.
    #[error("out of space in the grant table (GNTST_no_space)")]
    NoSpace,
    /// The operation was never done: the call was cut short.
    #[error("the operation was not carried out")]
    NotDone,
    /// A code that Xen's header does not name.
    #[error("unknown grant status {0}")]
    Unknown(i16),
}

impl GrantError {
    /// The error that a status code that is not 0 stands for.
    pub const fn from_code(code: i16) -> GrantError {
        match code {
            1 => GrantError::NotDone,
            -1 => GrantError::General,
            -2 => GrantError::BadDomain,
            -3 => GrantError::BadRef,
            -4 => GrantError::BadHandle,
            -5 => GrantError::BadVirtAddr,
            -6 => GrantError::BadDevAddr,
            -7 => GrantError::NoDeviceSpace,
            -8 => GrantError::PermissionDenied,
            -9 => GrantError::BadPage,
            -10 => GrantError::BadCopyArg,
            -11 => GrantError::TooBig,
            -12 => GrantError::Again,
            -13 => GrantError::NoSpace,
            other => GrantError::Unknown(other),
        }
    }

    /// The status word for this error, as the hypervisor writes it.
    pub const fn status(self) -> Status {
        Status(match self {
            GrantError::NotDone => 1,
            GrantError::General => -1,
            GrantError::BadDomain => -2,
            GrantError::BadRef => -3,
            GrantError::BadHandle => -4,
            GrantError::BadVirtAddr => -5,
            GrantError::BadDevAddr => -6,
            GrantError::NoDeviceSpace => -7,
            GrantError::PermissionDenied => -8,
            GrantError::BadPage => -9,
            GrantError::BadCopyArg => -10,
            GrantError::TooBig => -11,
            GrantError::Again => -12,
            GrantError::NoSpace => -13,
            GrantError::Unknown(code) => code,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_round_trip_and_only_zero_is_success() {
        assert_eq!(Status::OKAY.check(), Ok(()));
        for code in (i16::MIN..=i16::MAX).filter(|code| *code != 0) {
            let error = Status(code).check().expect_err("only 0 is success");
            assert_eq!(error.status(), Status(code));
        }
    }
}

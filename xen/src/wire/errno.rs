//! Errors, which travel as names.

use xenvelope_grant::seam::StoreError;

use super::WireError;

macro_rules! errors {
    ($($name:ident = $text:literal,)*) => {
        /// `xsd_errors`: what the store says when a request fails. (`EQUOTA` is oxenstored's.)
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "they are errno's names")]
        pub enum Errno { $($name,)* }

        impl Errno {
            /// All of them.
            pub const ALL: &[Errno] = &[$(Errno::$name,)*];

            /// Its name, as it is sent.
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$name => $text,)* }
            }
        }
    };
}

errors! {
    Inval = "EINVAL",
    Acces = "EACCES",
    Exist = "EEXIST",
    IsDir = "EISDIR",
    NoEnt = "ENOENT",
    NoMem = "ENOMEM",
    NoSpc = "ENOSPC",
    Io = "EIO",
    NotEmpty = "ENOTEMPTY",
    NoSys = "ENOSYS",
    RoFs = "EROFS",
    Busy = "EBUSY",
    Again = "EAGAIN",
    IsConn = "EISCONN",
    TooBig = "E2BIG",
    Perm = "EPERM",
    Quota = "EQUOTA",
}

impl Errno {
    /// The error of that name.
    pub fn from_name(name: &str) -> Option<Errno> {
        Self::ALL.iter().copied().find(|errno| errno.name() == name)
    }

    /// From the payload of a [`Kind::Error`](super::Kind::Error). A name that is not in the list
    /// is `EINVAL`, as Linux takes it (`get_error`, `drivers/xen/xenbus/xenbus_xs.c`).
    pub fn parse(payload: &[u8]) -> Result<Errno, WireError> {
        let (name, _) = super::string(payload)?;
        Ok(Self::from_name(name).unwrap_or(Errno::Inval))
    }
}

impl From<Errno> for StoreError {
    fn from(errno: Errno) -> StoreError {
        match errno {
            Errno::NoEnt => StoreError::NoEntry,
            Errno::Acces | Errno::Perm | Errno::RoFs => StoreError::NoPermission,
            Errno::TooBig => StoreError::TooLong,
            Errno::NoSpc | Errno::NoMem | Errno::Quota => StoreError::Quota,
            Errno::Io | Errno::Again | Errno::Busy => StoreError::Unreachable,
            Errno::Inval
            | Errno::Exist
            | Errno::IsDir
            | Errno::NotEmpty
            | Errno::NoSys
            | Errno::IsConn => StoreError::Malformed,
        }
    }
}

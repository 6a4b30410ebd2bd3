//! Who may do what with a node: one letter and a domain id for each, the owner's first.

use xenvelope_grant::DomId;

use super::{Decimal, WireError};

/// What a domain may do. In the owner's entry: what all may that have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `n`
    Nothing,
    /// `r`
    Read,
    /// `w`
    Write,
    /// `b`
    Both,
}

impl Access {
    const fn letter(self) -> u8 {
        match self {
            Access::Nothing => b'n',
            Access::Read => b'r',
            Access::Write => b'w',
            Access::Both => b'b',
        }
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// What.
    pub access: Access,
    /// Who.
    pub domid: DomId,
}

impl Permission {
    fn parse(text: &str) -> Result<Permission, WireError> {
        let (letter, id) = text.split_at_checked(1).ok_or(WireError::Text)?;
        let access = match letter {
            "n" => Access::Nothing,
            "r" => Access::Read,
            "w" => Access::Write,
            "b" => Access::Both,
            _ => return Err(WireError::Text),
        };
        Ok(Permission { access, domid: DomId(super::number(id)?) })
    }
}

/// A node's permissions as they are on the wire: at least the owner's, all well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions<'a>(&'a [u8]);

impl<'a> Permissions<'a> {
    /// From the payload of an answer, or what follows the path in a request.
    pub fn parse(bytes: &'a [u8]) -> Result<Permissions<'a>, WireError> {
        let mut rest = bytes;
        while {
            let (text, after) = super::string(rest)?;
            Permission::parse(text)?;
            rest = after;
            !rest.is_empty()
        } {}
        Ok(Permissions(bytes))
    }

    /// Each entry, the owner's first.
    pub fn iter(&self) -> impl Iterator<Item = Permission> + use<'a> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (text, after) = super::string(rest).ok()?;
            rest = after;
            Permission::parse(text).ok()
        })
    }

    /// The node's owner.
    pub fn owner(&self) -> Option<DomId> {
        self.iter().next().map(|permission| permission.domid)
    }

    /// As it is sent.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// Space for the text of some permissions.
#[derive(Clone, Copy, Debug)]
pub struct PermissionsText {
    bytes: [u8; Self::MOST * 7],
    length: usize,
}

impl PermissionsText {
    /// Most entries of a node (`quota_nb_perms_per_node`).
    pub const MOST: usize = 5;

    /// The text of these, if there is one at least and not too many.
    pub fn new(permissions: &[Permission]) -> Result<PermissionsText, WireError> {
        if permissions.is_empty() {
            return Err(WireError::Text);
        }
        if permissions.len() > Self::MOST {
            return Err(WireError::TooLong);
        }
        let mut text = PermissionsText { bytes: [0; Self::MOST * 7], length: 0 };
        for permission in permissions {
            let id = Decimal::new(u32::from(permission.domid.0));
            text.push(&[permission.access.letter()]);
            text.push(id.as_str().as_bytes());
            text.push(&[0]);
        }
        Ok(text)
    }

    // A letter, at most five digits and a nul for each entry: it fits.
    fn push(&mut self, part: &[u8]) {
        self.bytes[self.length..][..part.len()].copy_from_slice(part);
        self.length += part.len();
    }

    /// As it is sent.
    pub fn permissions(&self) -> Permissions<'_> {
        Permissions(&self.bytes[..self.length])
    }
}

//! One side's directory in the store: reading what may be nonsense, writing all or nothing.

use core::fmt::{Display, Write};

use arrayvec::{ArrayString, ArrayVec};

use super::{XenbusState, key};
use crate::seam::{Change, Store, StoreError};
use crate::{DomId, Gref};

/// Most bytes of a path that we make or follow.
pub const PATH_MAX: usize = 160;
/// Most bytes of a value that we look at.
pub const VALUE_MAX: usize = 64;
/// Most changes of one transaction.
pub const CHANGES_MAX: usize = 64;

/// A path, held by value.
pub type Path = ArrayString<PATH_MAX>;

/// A directory of a split device in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Directory(Path);

impl Directory {
    /// The directory at `path`.
    pub fn new(path: &str) -> Result<Directory, StoreError> {
        Path::from(path).map(Directory).map_err(|_| StoreError::TooLong)
    }

    /// Its path.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// A directory below it.
    pub fn child(&self, name: impl Display) -> Result<Directory, StoreError> {
        let mut path = self.0;
        write!(path, "/{name}").map_err(|_| StoreError::TooLong)?;
        Ok(Directory(path))
    }

    /// What follows the directory in a path below it: `a/b` of `DIR/a/b`.
    pub fn below<'p>(&self, path: &'p str) -> Option<&'p str> {
        path.strip_prefix(self.path())?.strip_prefix('/')
    }

    /// The value of a key.
    pub fn text(
        &self,
        store: &impl Store,
        name: &str,
    ) -> Result<ArrayString<PATH_MAX>, StoreError> {
        let mut value = [0; PATH_MAX];
        let text = store.read(self.child(name)?.path(), &mut value)?;
        ArrayString::from(text).map_err(|_| StoreError::TooLong)
    }

    /// The value of a key as a number.
    pub fn number(&self, store: &impl Store, name: &str) -> Result<u64, StoreError> {
        self.text(store, name)?.parse().map_err(|_| StoreError::Malformed)
    }

    /// The value of a key as the id of an ordinary domain.
    pub fn domid(&self, store: &impl Store, name: &str) -> Result<DomId, StoreError> {
        u16::try_from(self.number(store, name)?)
            .ok()
            .and_then(DomId::ordinary)
            .ok_or(StoreError::Malformed)
    }

    /// The value of a key as 32 bits: a grant reference or an event channel port.
    pub fn word(&self, store: &impl Store, name: &str) -> Result<u32, StoreError> {
        u32::try_from(self.number(store, name)?).map_err(|_| StoreError::Malformed)
    }

    /// Whether a `feature-` key is there and is not 0. What makes no sense is not offered.
    pub fn feature(&self, store: &impl Store, name: &str) -> bool {
        self.number(store, name).is_ok_and(|value| value != 0)
    }

    /// The connection state.
    pub fn state(&self, store: &impl Store) -> XenbusState {
        self.text(store, key::STATE).map_or(XenbusState::Unknown, |text| XenbusState::parse(&text))
    }

    /// The grant references `NAME0` to `NAMEn`, `count` of them, at most `MAX`.
    pub fn refs<const MAX: usize>(
        &self,
        store: &impl Store,
        name: &str,
        count: usize,
    ) -> Result<ArrayVec<Gref, MAX>, StoreError> {
        let mut refs = ArrayVec::new();
        for index in 0..count {
            let mut numbered = ArrayString::<VALUE_MAX>::new();
            write!(numbered, "{name}{index}").map_err(|_| StoreError::TooLong)?;
            refs.try_push(Gref(self.word(store, &numbered)?)).map_err(|_| StoreError::TooLong)?;
        }
        Ok(refs)
    }
}

/// Changes that are made together.
#[derive(Default)]
pub struct Transaction {
    writes: ArrayVec<(Path, ArrayString<PATH_MAX>, Option<DomId>), CHANGES_MAX>,
    overflow: bool,
}

impl Transaction {
    /// No changes yet.
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// Writes `directory/name`, readable by `reader` too.
    pub fn write(
        &mut self,
        directory: &Directory,
        name: impl Display,
        value: impl Display,
        reader: Option<DomId>,
    ) -> &mut Transaction {
        let mut text = ArrayString::new();
        let fits = write!(text, "{value}").is_ok();
        match directory.child(name) {
            Ok(path) if fits && self.writes.try_push((path.0, text, reader)).is_ok() => {}
            _ => self.overflow = true,
        }
        self
    }

    /// Writes a connection state.
    pub fn state(
        &mut self,
        directory: &Directory,
        state: XenbusState,
        reader: Option<DomId>,
    ) -> &mut Transaction {
        self.write(directory, key::STATE, state.as_str(), reader)
    }

    /// Writes grant references as `NAME0` to `NAMEn`.
    pub fn refs(
        &mut self,
        directory: &Directory,
        name: &str,
        refs: &[Gref],
        reader: Option<DomId>,
    ) -> &mut Transaction {
        for (index, gref) in refs.iter().enumerate() {
            self.write(directory, format_args!("{name}{index}"), gref.0, reader);
        }
        self
    }

    /// Makes all the changes, or none.
    pub fn commit(&self, store: &impl Store) -> Result<(), StoreError> {
        if self.overflow {
            return Err(StoreError::TooLong);
        }
        let changes: ArrayVec<Change<'_>, CHANGES_MAX> = self
            .writes
            .iter()
            .map(|(path, value, reader)| Change::Write { path, value, reader: *reader })
            .collect();
        store.commit(&changes)
    }
}

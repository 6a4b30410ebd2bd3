//! stub
use std::os::fd::BorrowedFd;
use xenvelope_grant::seam::{Change, Store, StoreError, WatchEvent};
/// stub
pub struct XenStore;
impl XenStore {
    /// stub
    pub fn open() -> Result<XenStore, StoreError> {
        Err(StoreError::Unreachable)
    }
    /// stub
    pub fn has_events(&self) -> bool {
        false
    }
    /// stub
    pub fn fd(&self) -> BorrowedFd<'_> {
        todo!()
    }
}
impl Store for XenStore {
    fn read<'o>(&self, _: &str, _: &'o mut [u8]) -> Result<&'o str, StoreError> {
        todo!()
    }
    fn list<'o>(&self, _: &str, _: &'o mut [u8]) -> Result<&'o str, StoreError> {
        todo!()
    }
    fn commit(&self, _: &[Change<'_>]) -> Result<(), StoreError> {
        todo!()
    }
    fn watch(&self, _: &str, _: u32) -> Result<(), StoreError> {
        todo!()
    }
    fn unwatch(&self, _: u32) {}
    fn next<'o>(&self, _: &'o mut [u8]) -> Option<WatchEvent<'o>> {
        None
    }
}

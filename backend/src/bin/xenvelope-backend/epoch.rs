//! The manager's epoch: a number that grows with each start on a host, so that nothing that an
//! earlier life gave out is taken for ours.

use std::time::{SystemTime, UNIX_EPOCH};

use xenvelope_grant::seam::{Change, Store, StoreError};

/// Where it is kept, relative to this domain's directory: it lives as long as the domain, as the
/// guests' connections do.
const KEY: &str = "xenvelope/epoch";

/// The epoch of this start.
pub fn next(store: &impl Store) -> u64 {
    match advance(store) {
        Ok(epoch) => epoch,
        Err(error) => {
            let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |at| at.as_secs());
            tracing::warn!(%error, epoch, "the epoch cannot be kept in the store: taking the time");
            epoch
        }
    }
}

fn advance(store: &impl Store) -> Result<u64, StoreError> {
    let mut text = [0; 32];
    let last = match store.read(KEY, &mut text) {
        Ok(text) => text.parse().map_err(|_| StoreError::Malformed)?,
        Err(StoreError::NoEntry) => 0_u64,
        Err(error) => return Err(error),
    };
    let epoch = last.checked_add(1).ok_or(StoreError::Malformed)?;
    store.commit(&[Change::Write { path: KEY, value: &epoch.to_string(), reader: None }])?;
    Ok(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::cell::RefCell;
    use xenvelope_grant::seam::WatchEvent;

    /// A store of one key.
    struct OneKey(RefCell<Result<String, StoreError>>);

    impl Store for OneKey {
        fn read<'o>(&self, path: &str, out: &'o mut [u8]) -> Result<&'o str, StoreError> {
            assert_eq!(path, KEY);
            let value = self.0.borrow().clone()?;
            let out = out.get_mut(..value.len()).ok_or(StoreError::TooLong)?;
            out.copy_from_slice(value.as_bytes());
            str::from_utf8(out).map_err(|_| StoreError::Malformed)
        }
        fn list<'o>(&self, _: &str, _: &'o mut [u8]) -> Result<&'o str, StoreError> {
            Err(StoreError::NoEntry)
        }
        fn commit(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
            let [Change::Write { path: KEY, value, reader: None }] = changes else {
                return Err(StoreError::NoPermission);
            };
            *self.0.borrow_mut() = Ok((*value).to_owned());
            Ok(())
        }
        fn watch(&self, _: &str, _: u32) -> Result<(), StoreError> {
            Ok(())
        }
        fn unwatch(&self, _: u32) {}
        fn next<'o>(&self, _: &'o mut [u8]) -> Option<WatchEvent<'o>> {
            None
        }
    }

    #[test]
    fn it_grows_with_each_start() {
        let store = OneKey(RefCell::new(Err(StoreError::NoEntry)));
        assert_eq!((next(&store), next(&store), next(&store)), (1, 2, 3));
    }

    #[test]
    fn without_a_store_it_is_the_time() {
        let full = u64::MAX.to_string();
        for value in [Err(StoreError::Unreachable), Ok("x".to_owned()), Ok(full)] {
            let epoch = next(&OneKey(RefCell::new(value)));
            assert!(epoch > 1_700_000_000 && epoch < u64::MAX, "{epoch}");
        }
    }
}

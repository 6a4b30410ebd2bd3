//! What other domains may still have mapped of pages that we freed.
//!
//! gntalloc says nothing when it frees a page that is in use: the page goes to the kernel's
//! deferred list, and the device's limit is credited as if it were free. So a domain that maps
//! pages and keeps them could take all our memory, page by page. Whether it does cannot be seen
//! from user space; therefore every page that was freed without the domain's done is held against
//! it, and what is held against it is forgotten slowly.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use xenvelope_grant::{DomId, GrantError};

/// How often a page is forgotten: 86,400 pages a day at most, by domains that keep all they can.
const FORGIVEN: Duration = Duration::from_secs(1);

struct Held {
    pages: u32,
    since: Instant,
}

/// Pages held against each domain.
pub(super) struct Account {
    limit: u32,
    held: RefCell<HashMap<DomId, Held>>,
}

impl Account {
    pub fn new(limit: u32) -> Account {
        Account { limit, held: RefCell::new(HashMap::new()) }
    }

    /// Pages were freed that `domain` may still have mapped.
    pub fn freed(&self, domain: DomId, pages: u32) {
        let mut held = self.held.borrow_mut();
        let entry = held.entry(domain).or_insert(Held { pages: 0, since: Instant::now() });
        entry.pages = entry.pages.saturating_add(pages);
    }

    /// Whether `domain` may be granted new pages.
    pub fn check(&self, domain: DomId) -> Result<(), GrantError> {
        let mut held = self.held.borrow_mut();
        let Some(entry) = held.get_mut(&domain) else { return Ok(()) };
        let forgiven = entry.since.elapsed().as_secs() / FORGIVEN.as_secs();
        entry.since += FORGIVEN * u32::try_from(forgiven).unwrap_or(u32::MAX);
        entry.pages = entry.pages.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        if entry.pages == 0 {
            held.remove(&domain);
            return Ok(());
        }
        if entry.pages >= self.limit { Err(GrantError::NoSpace) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_have_kept_too_many_pages_gets_no_more_and_others_do() {
        let account = Account::new(100);
        account.freed(DomId(1), 99);
        assert_eq!(account.check(DomId(1)), Ok(()));
        account.freed(DomId(1), 2);
        assert_eq!(account.check(DomId(1)), Err(GrantError::NoSpace));
        assert_eq!(account.check(DomId(2)), Ok(()));
    }
}

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
        self.freed_at(domain, pages, Instant::now());
    }

    fn freed_at(&self, domain: DomId, pages: u32, now: Instant) {
        let mut held = self.held.borrow_mut();
        let entry = held.entry(domain).or_insert(Held { pages: 0, since: now });
        // Before they are added: time that has passed forgives none of these.
        entry.forgive(now);
        entry.pages = entry.pages.saturating_add(pages);
    }

    /// Whether `domain` may be granted new pages.
    pub fn check(&self, domain: DomId) -> Result<(), GrantError> {
        self.check_at(domain, Instant::now())
    }

    fn check_at(&self, domain: DomId, now: Instant) -> Result<(), GrantError> {
        let mut held = self.held.borrow_mut();
        let Some(entry) = held.get_mut(&domain) else { return Ok(()) };
        entry.forgive(now);
        if entry.pages == 0 {
            held.remove(&domain);
            return Ok(());
        }
        if entry.pages >= self.limit { Err(GrantError::NoSpace) } else { Ok(()) }
    }
}

impl Held {
    fn forgive(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let forgiven = u32::try_from(elapsed.as_secs() / FORGIVEN.as_secs()).unwrap_or(u32::MAX);
        self.since += FORGIVEN * forgiven;
        self.pages = self.pages.saturating_sub(forgiven);
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

    #[test]
    fn time_that_has_passed_forgives_nothing_that_is_freed_later() {
        let account = Account::new(100);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        account.freed_at(DomId(1), 1, start);
        account.freed_at(DomId(1), 200, after(1000));
        assert_eq!(account.check_at(DomId(1), after(1000)), Err(GrantError::NoSpace));
        assert_eq!(account.check_at(DomId(1), after(1100)), Err(GrantError::NoSpace));
        assert_eq!(account.check_at(DomId(1), after(1101)), Ok(()));
    }
}

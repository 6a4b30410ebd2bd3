//! The forwarding table that the manager keeps for us: mapped when we connect, and mapped again
//! when a manager that was restarted has exported another.

use arrayvec::ArrayVec;
use xenvelope_grant::Gref;
use xenvelope_grant::seam::{Access, Hypervisor, Instant, NicPort, StoreError};
use xenvelope_grant::xenbus::key;
use xenvelope_switch::table::TableReader;

use super::handshake::LOOK_AGAIN;
use crate::interface::{Frontend, FrontendError, Table};

/// Most pages of a forwarding table.
pub(crate) const TABLE_PAGES_MAX: usize = 16;

/// The references of a table's pages.
pub(crate) type TableRefs = ArrayVec<Gref, TABLE_PAGES_MAX>;

impl<H: Hypervisor, N: NicPort<Buf = H::Buf>> Frontend<H, N> {
    /// Maps the table that the store names now, if we have not. Without one everything takes the
    /// default route.
    pub(super) fn follow_table(&mut self, now: Instant) {
        if !self.config.envelopes {
            return;
        }
        // While we map a page nobody else's page gets its reference: the same references are the
        // same table.
        let mapped = match self.table_refs() {
            Ok(refs) if self.table.as_ref().is_some_and(|table| table.refs == refs) => return,
            Ok(refs) if refs.is_empty() => {
                self.table = None;
                return;
            }
            // What the store does not say now it says later.
            Err(FrontendError::Store(StoreError::Unreachable)) => return,
            Ok(refs) => {
                self.table = None;
                self.map_table(refs, now)
            }
            Err(error) => Err(error),
        };
        match mapped {
            Ok(table) => {
                self.counters.tables_attached += 1;
                self.table = Some(table);
                // A backend that was restarted may not know what we told the one before.
                if let Some(driver) = &mut self.driver {
                    driver.kick = true;
                }
            }
            Err(_) => {
                self.table = None;
                self.counters.tables_refused += 1;
                self.control.look_at = self.control.look_at.min(now + LOOK_AGAIN);
            }
        }
    }

    /// The references that the store names; none if it names no table.
    fn table_refs(&self) -> Result<TableRefs, FrontendError> {
        let back = self.control.back;
        let pages = match back.number(&self.host, key::FORWARDING_TABLE_PAGES) {
            Err(StoreError::NoEntry | StoreError::NoPermission) => 0,
            other => other?,
        };
        if pages > TABLE_PAGES_MAX as u64 {
            return Err(StoreError::Malformed.into());
        }
        Ok(back.refs(&self.host, key::FORWARDING_TABLE_REF, pages as usize)?)
    }

    fn map_table(&self, refs: TableRefs, now: Instant) -> Result<Table<H::Pages>, FrontendError> {
        let words = self.host.import(self.control.backend, &refs, Access::Read)?;
        let reader = TableReader::attach(words)?;
        let heartbeat = reader.heartbeat();
        Ok(Table { reader, refs, heartbeat, beat_at: now, fresh: true })
    }
}

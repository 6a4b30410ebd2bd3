//! A look-up in the forwarding table against one in a hash map that nobody writes.
//!
//! The table is as a frontend has it: pages of another domain, mapped read-only, in which a writer
//! on the other core changes a thousand entries a second. The map is `hashbrown`'s with its
//! default hasher, with the same keys and the same values, private to the thread.

use std::cell::Cell;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use xenvelope_grant::seam::{Access, Host as _, Share, Shared as _};
use xenvelope_grant::{DomId, Peer, Words};
use xenvelope_hypervisor_sim::machine::{Costs, Machine};
use xenvelope_switch::MacAddress;
use xenvelope_switch::table::{Entry, EntryFlags, TableReader, TableWriter};

use super::{Line, Measured, nothing};
use crate::bars::Asks;
use crate::two::{CORES, pin};

/// The line.
pub const LINE: Line = Line {
    name: "table-lookup",
    describes: "a look-up in a table of 1000 entries that is written, against hashbrown's",
    asks: &[("hit", Asks::AtMost(1.5))],
    needs: nothing,
    run,
};

const ENTRIES: u16 = 1000;
/// Between two changes: a thousand a second.
const PAUSE: Duration = Duration::from_millis(1);
/// Pages of the table: it is about half full.
const PAGES: usize = 17;
/// Look-ups between two looks at the clock.
const AT_ONCE: usize = 1000;
/// Entries that a look-up may examine.
const EXAMINED: u64 = 8;

fn entry(number: u16, channel: u16) -> Entry {
    let [high, low] = number.to_be_bytes();
    Entry {
        mac: MacAddress([0x02, 0x16, 0x3e, 0x11, high, low]),
        vid: 0,
        peer: Peer { domid: DomId(number + 1), incarnation: u64::from(number) + 7 },
        channel,
        flags: EntryFlags::ENVELOPE,
    }
}

fn run(length: Duration, _: &Path) -> Result<Vec<Measured>> {
    let machine = Machine::new(Costs::ideal());
    let (manager, guest) =
        (machine.create_domain("manager", 64), machine.create_domain("guest", 64));
    let pages = manager.export(guest.domid(), PAGES, Access::Read)?;
    let seen = guest.import(manager.domid(), pages.refs(), Access::Read)?;
    let mut writer = TableWriter::new(&pages, manager.random(), 1)?;
    for number in 0..ENTRIES {
        writer.insert(entry(number, 0))?;
    }
    most_examined(&seen)?;
    let reader = TableReader::attach(&seen)?;
    let map: hashbrown::HashMap<(MacAddress, u16), Entry> =
        writer.entries().map(|entry| ((entry.mac, entry.vid), entry)).collect();
    // Not in the order in which they were put in; each comes up as often.
    let keys: Vec<MacAddress> =
        (0..ENTRIES).map(|n| entry((n as u32 * 387 % u32::from(ENTRIES)) as u16, 0).mac).collect();
    let stop = AtomicBool::new(false);
    let (ours, other, changes) = std::thread::scope(|scope| -> Result<_> {
        let changing = scope.spawn(|| -> Result<u64> {
            pin(CORES[1])?;
            let mut changes = 0u64;
            let (start, mut next) = (Instant::now(), PAUSE);
            while !stop.load(Ordering::Relaxed) {
                // What is late is made up for: on the average it is a thousand a second.
                while start.elapsed() >= next {
                    let number = (changes % u64::from(ENTRIES)) as u16;
                    writer.insert(entry(number, 1 + (changes / 1000 % 100) as u16))?;
                    changes += 1;
                    next += PAUSE;
                }
                std::thread::sleep(PAUSE / 2);
            }
            Ok(changes)
        });
        let measured = pin(CORES[0]).map(|()| {
            // In turn, so that both see the same of what else happens.
            let slice = length / 8;
            let (mut ours, mut other) = ((0.0, 0u64), (0.0, 0u64));
            for _ in 0..4 {
                let table = time(slice, &keys, |mac| reader.lookup(mac, 0).is_some());
                let map = time(slice, &keys, |mac| map.get(&(mac, 0)).copied().is_some());
                ours = (ours.0 + table.0, ours.1 + table.1);
                other = (other.0 + map.0, other.1 + map.1);
            }
            (ours.0 / ours.1 as f64, other.0 / other.1 as f64)
        });
        stop.store(true, Ordering::Relaxed);
        let changes = changing.join().map_err(|_| anyhow::anyhow!("the writer has panicked"))??;
        let (ours, other) = measured?;
        Ok((ours, other, changes))
    })?;
    ensure!(changes > 0, "the writer has written nothing");
    Ok(vec![Measured {
        what: format!("hit, {ENTRIES} entries"),
        against: format!("hashbrown, {}", hasher()),
        unit: "ns".to_owned(),
        ours,
        other,
    }])
}

/// The name of the map's hasher.
fn hasher() -> &'static str {
    let name = std::any::type_name::<hashbrown::DefaultHashBuilder>();
    name.split('<').next().unwrap_or(name)
}

/// Nanoseconds and look-ups that hit.
fn time(length: Duration, keys: &[MacAddress], look_up: impl Fn(MacAddress) -> bool) -> (f64, u64) {
    let (start, mut hits) = (Instant::now(), 0);
    let mut keys = keys.iter().cycle();
    while start.elapsed() < length {
        for mac in keys.by_ref().take(AT_ONCE) {
            // The address is read where it has long been, as in a frame. A copy of its 6 bytes
            // that was just made cannot be read as a whole before it has left the processor's
            // store buffer, and every look-up, on both sides, would wait for the one before.
            hits += u64::from(look_up(*black_box(mac)));
        }
    }
    (start.elapsed().as_nanos() as f64, hits)
}

/// Looks every address up, with every load counted: no look-up may examine more than eight entries.
fn most_examined(words: &impl Words) -> Result<()> {
    let counting = Counting { words, first_words: Cell::new(0) };
    let reader = TableReader::attach(&counting)?;
    for number in 0..2 * ENTRIES {
        counting.first_words.set(0);
        let found = reader.lookup(entry(number, 0).mac, 0).is_some();
        ensure!(
            found == (number < ENTRIES),
            "entry {number} of the table is not as it was written"
        );
        let examined = counting.first_words.get();
        ensure!(examined <= EXAMINED, "a look-up examined {examined} entries");
    }
    Ok(())
}

/// Words that count the loads of the first words of entries.
struct Counting<'w, W> {
    words: &'w W,
    first_words: Cell<u64>,
}

/// The table's layout: where buckets begin, how long one is, and where in it entries begin.
const BUCKETS_AT: usize = 128;
const BUCKET: usize = 128;
const FIRST_WORDS: [usize; 4] = [8, 32, 56, 80];

impl<W: Words> Words for Counting<'_, W> {
    fn size(&self) -> usize {
        self.words.size()
    }
    fn load_u16(&self, at: usize, order: Ordering) -> u16 {
        self.words.load_u16(at, order)
    }
    fn store_u16(&self, at: usize, value: u16, order: Ordering) {
        self.words.store_u16(at, value, order);
    }
    fn compare_exchange_u16(&self, at: usize, current: u16, new: u16) -> Result<(), u16> {
        self.words.compare_exchange_u16(at, current, new)
    }
    fn load_u32(&self, at: usize, order: Ordering) -> u32 {
        self.words.load_u32(at, order)
    }
    fn store_u32(&self, at: usize, value: u32, order: Ordering) {
        self.words.store_u32(at, value, order);
    }
    fn load_u64(&self, at: usize, order: Ordering) -> u64 {
        if at >= BUCKETS_AT && FIRST_WORDS.contains(&((at - BUCKETS_AT) % BUCKET)) {
            self.first_words.set(self.first_words.get() + 1);
        }
        self.words.load_u64(at, order)
    }
    fn store_u64(&self, at: usize, value: u64, order: Ordering) {
        self.words.store_u64(at, value, order);
    }
    fn copy_out(&self, at: usize, out: &mut [u8]) {
        self.words.copy_out(at, out);
    }
    fn copy_in(&self, at: usize, bytes: &[u8]) {
        self.words.copy_in(at, bytes);
    }
    fn full_barrier(&self) {
        self.words.full_barrier();
    }
    fn read_barrier(&self) {
        self.words.read_barrier();
    }
}

//! The control thread: what may block, and must not hold frames up. It tells the card what the
//! loop asks for, and hands devices that are not ours to the kernel's drivers.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use xenvelope_grant::seam::{Store, StoreError};
use xenvelope_grant::xenbus::{Directory, key};
use xenvelope_switch::MacAddress;
use xenvelope_xen::linux::store::XenStore;

use crate::commands::{Pf, Processes};
use crate::stock_drivers::{Scripts, StockDrivers};

/// How often devices are looked at while they come and go.
const SOON: Duration = Duration::from_millis(100);
/// For how long after something changed.
const AWAKE: Duration = Duration::from_secs(5);
/// How often otherwise. The toolstack waits 10 s for a backend (`LIBXL_INIT_TIMEOUT`).
const SELDOM: Duration = Duration::from_millis(500);

/// What the thread is asked to do.
#[derive(Debug)]
pub enum Order {
    /// Frames to `mac` are, or are no longer, for the PF.
    Reach {
        /// The address.
        mac: MacAddress,
        /// Whether its guest is behind our switch.
        behind_us: bool,
    },
    /// VFs are to have these addresses.
    Vfs(BTreeMap<u16, MacAddress>),
}

/// The thread. Dropping it ends it, when what it was asked for is done.
pub struct ControlThread {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl ControlThread {
    /// Starts it, over a card and the kernel's drivers, if there are any to look after.
    pub fn spawn(
        pf: Option<Pf<Processes>>,
        drivers: Option<StockDrivers>,
    ) -> std::io::Result<ControlThread> {
        let (orders, received) = crossbeam_channel::unbounded();
        let control = Control { pf, drivers, awake: Instant::now() };
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || control.run(&received))?;
        Ok(ControlThread { orders: Some(orders), thread: Some(thread) })
    }

    /// Where orders go.
    pub fn orders(&self) -> Option<Sender<Order>> {
        self.orders.clone()
    }
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        // The agent in the backend has gone before: the thread sees that nobody can ask any more.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked its message was printed.
            let _ = thread.join();
        }
    }
}

struct Control {
    pf: Option<Pf<Processes>>,
    drivers: Option<StockDrivers>,
    awake: Instant,
}

impl Control {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut store = StoreScripts(None);
        loop {
            let pause = self.look(&mut store);
            let order = match pause {
                Some(pause) => orders.recv_timeout(pause),
                None => orders.recv().map_err(RecvTimeoutError::from),
            };
            match order {
                Ok(order) => {
                    self.carry_out(order);
                    orders.try_iter().for_each(|order| self.carry_out(order));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        let Some(pf) = &mut self.pf else { return };
        match order {
            Order::Reach { mac, behind_us } => pf.reach(mac, behind_us),
            Order::Vfs(vfs) => {
                // What went wrong has been logged.
                pf.set_up(&vfs);
            }
        }
    }

    /// Looks at the bus, if it is ours to look at. When to look again.
    fn look(&mut self, store: &mut StoreScripts) -> Option<Duration> {
        let drivers = self.drivers.as_mut()?;
        let now = Instant::now();
        let look = drivers.look(now, store);
        if look.changed {
            self.awake = now + AWAKE;
        }
        Some(if now < self.awake { SOON } else { SELDOM })
    }
}

/// The store, by a connection of the thread's own. It is opened when it is first needed.
struct StoreScripts(Option<XenStore>);

impl Scripts for StoreScripts {
    fn script(&mut self, domid: u16, handle: u32) -> Result<Option<String>, StoreError> {
        let store = match self.0.take() {
            Some(store) => store,
            None => XenStore::open().map_err(|error| {
                tracing::warn!(%error, "cannot ask the store whose an interface is");
                StoreError::Unreachable
            })?,
        };
        let result = read_script(&store, domid, handle);
        // One that does not answer is opened anew.
        if !matches!(result, Err(StoreError::Unreachable)) {
            self.0 = Some(store);
        }
        result
    }
}

fn read_script(store: &impl Store, domid: u16, handle: u32) -> Result<Option<String>, StoreError> {
    let vif = Directory::new("backend/vif")?.child(domid)?.child(handle)?;
    match vif.text(store, key::SCRIPT) {
        Ok(script) => Ok(Some(script.to_string())),
        // Longer than ours can be.
        Err(StoreError::NoEntry | StoreError::TooLong | StoreError::Malformed) => Ok(None),
        Err(error) => Err(error),
    }
}

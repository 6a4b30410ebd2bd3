//! Event channels, by `/dev/xen/evtchn`.
//!
//! Reading the device gives the ports that fired, masked; writing a port unmasks it. The kernel
//! keeps fired ports in a ring of its own; if it overflows, reading fails with `EFBIG` until the
//! ring is reset. As it holds a place for every port that is bound, that takes an old kernel;
//! every port counts as fired then.

use std::fs::File;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use xenvelope_grant::DomId;
use xenvelope_grant::seam::{EventError, Events, Host as _, Instant, PortId};

use super::host::{Inner, Xen};
use super::sys;

/// A port of ours. Closed when dropped.
pub struct Port {
    number: u32,
    host: Rc<Inner>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.host.ports.borrow_mut().retain(|port| *port != self.number);
        if let Err(error) = sys::unbind(&self.host.evtchn, self.number) {
            tracing::error!(port = self.number, %error, "evtchn does not know a port of ours");
        }
    }
}

fn event_error(error: &io::Error) -> EventError {
    match error.raw_os_error() {
        Some(nix::libc::ENOSPC) => EventError::NoPort,
        Some(nix::libc::ESRCH) => EventError::NoDomain,
        // EINVAL: no such port, or it is not for us.
        _ => EventError::NotOpen,
    }
}

impl Xen {
    fn port(&self, number: io::Result<u32>) -> Result<Port, EventError> {
        let number = number.map_err(|error| event_error(&error))?;
        self.inner.ports.borrow_mut().push(number);
        Ok(Port { number, host: Rc::clone(&self.inner) })
    }
}

impl Events for Xen {
    type Port = Port;

    fn listen(&self, peer: DomId) -> Result<Port, EventError> {
        self.port(sys::bind_unbound(&self.inner.evtchn, peer))
    }

    fn connect(&self, peer: DomId, remote: u32) -> Result<Port, EventError> {
        self.port(sys::bind_interdomain(&self.inner.evtchn, peer, remote))
    }

    fn id(&self, port: &Port) -> PortId {
        PortId(port.number)
    }

    fn notify(&self, port: &Port) {
        // ENOTCONN-like failures mean that nobody listens any more: the store will say so.
        let _ = sys::notify(&self.inner.evtchn, port.number);
    }

    fn wait(&self, out: &mut [PortId], until: Instant) -> usize {
        if self.inner.store.has_events() {
            return 0;
        }
        let timeout = if until == Instant::FAR_FUTURE {
            None
        } else {
            Some(until.since(self.now()).min(Duration::from_secs(3600)))
        };
        self.inner.devices.wait(&self.inner, timeout, out)
    }

    fn unmask(&self, port: &Port) {
        let mut device: &File = &self.inner.evtchn;
        if let Err(error) = device.write_all(&port.number.to_ne_bytes()) {
            tracing::error!(port = port.number, %error, "cannot unmask a port of ours");
        }
    }
}

/// Takes the ports that have fired, masked, into `out`. How many.
pub(super) fn fired(host: &Inner, out: &mut [PortId]) -> usize {
    const PORTS: usize = 64;
    let mut bytes = [0; 4 * PORTS];
    let wanted = out.len().min(PORTS) * 4;
    let mut device: &File = &host.evtchn;
    match device.read(&mut bytes[..wanted]) {
        Ok(len) => {
            let ports = bytes[..len].as_chunks::<4>().0;
            for (place, port) in out.iter_mut().zip(ports) {
                *place = PortId(u32::from_ne_bytes(*port));
            }
            ports.len()
        }
        Err(error) if error.raw_os_error() == Some(nix::libc::EFBIG) => {
            let _ = sys::reset_ports(&host.evtchn);
            let ports = host.ports.borrow();
            for (place, port) in out.iter_mut().zip(ports.iter()) {
                *place = PortId(*port);
            }
            ports.len().min(out.len())
        }
        Err(_) => 0,
    }
}

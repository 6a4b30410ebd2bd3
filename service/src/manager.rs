//! The service manager is told how far we are, if there is one (`sd_notify(3)`): a datagram to
//! the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says `state` (`READY=1`, `STOPPING=1`, `STATUS=...`).
pub fn tell(state: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(&socket, state)
    {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

fn send(socket: &OsStr, state: &str) -> std::io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_hears_it_by_path_and_by_name() {
        let path = std::env::temp_dir().join(format!("xenvelope-notify-{}", std::process::id()));
        let name = format!("xenvelope-notify-{}", std::process::id());
        let listeners = [
            (UnixDatagram::bind(&path), path.clone().into_os_string()),
            (
                SocketAddr::from_abstract_name(&name)
                    .and_then(|address| UnixDatagram::bind_addr(&address)),
                format!("@{name}").into(),
            ),
        ];
        for (listener, socket) in listeners {
            let listener = listener.expect("a socket can be bound");
            send(&socket, "READY=1").expect("somebody listens");
            let mut bytes = [0; 16];
            let length = listener.recv(&mut bytes).expect("it was sent");
            assert_eq!(&bytes[..length], b"READY=1");
        }
        std::fs::remove_file(&path).expect("the socket was just bound");
    }
}

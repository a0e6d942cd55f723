//! Tells systemd how far the server is (`sd_notify(3)`): a unit of `Type=notify` counts as started
//! only then. Without `NOTIFY_SOCKET` there is nobody to tell.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What the supervisor should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    Stopping,
}

/// A supervisor that cannot be told is worth a warning, not a stop: the server works.
pub fn tell(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(socket.as_bytes(), state) {
        tracing::warn!(%error, "NOTIFY_SOCKET is set, and the supervisor cannot be told");
    }
}

fn send(socket: &[u8], state: State) -> io::Result<()> {
    let message = match state {
        State::Ready => "READY=1",
        State::Stopping => "STOPPING=1",
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address(socket)?).map(drop)
}

/// A path, or on Linux a name in the abstract namespace, written with a leading `@`.
fn address(socket: &[u8]) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.strip_prefix(b"@") {
        return <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name);
    }
    SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_supervisor_is_told_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let abstract_name = format!("@countersign-test-{}", std::process::id());
        let mut names = vec![path.as_os_str().as_bytes().to_vec()];
        if cfg!(target_os = "linux") {
            names.push(abstract_name.into_bytes());
        }
        for name in names {
            let supervisor = UnixDatagram::bind_addr(&address(&name).expect("an address"));
            let supervisor = supervisor.expect("bound");
            for (state, message) in [(State::Ready, "READY=1"), (State::Stopping, "STOPPING=1")] {
                send(&name, state).expect("sent");
                let mut buffer = [0; 32];
                let length = supervisor.recv(&mut buffer).expect("received");
                assert_eq!(&buffer[..length], message.as_bytes());
            }
        }
    }

    #[test]
    fn a_socket_that_nobody_reads_is_an_error_and_no_panic() {
        assert!(send(b"/no/such/socket", State::Ready).is_err());
    }
}

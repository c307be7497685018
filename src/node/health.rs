//! Whether a node should be sent work, and the word to systemd that it is up.
//!
//! Layer: node.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::follower::View;
use crate::leader::Server;

/// A follower that has not had everything for this long should not be sent readers that expect the present.
const STALE_AFTER: Duration = Duration::from_secs(10);

/// What keeps the node from being ready, by name; nothing: it is.
pub(super) fn unready(server: &Server, follows: Option<&View>) -> Vec<String> {
    let mut failing = Vec::new();
    match server.log_status() {
        None => failing.push("log: this follower has not reached its leader yet".to_owned()),
        Some(status) => failing.extend(status.halted.map(|why| format!("log: halted: {why}"))),
    }
    if let Some(view) = follows {
        match view.as_of {
            None => failing.push("caught-up: not once since the start".to_owned()),
            Some(at) if at.elapsed() > STALE_AFTER => {
                failing.push(format!("fresh: everything was here {:.0} s ago", at.elapsed().as_secs_f64()));
            }
            Some(_) => {}
        }
        if let (false, Some(trouble)) = (view.connected, &view.trouble) {
            failing.push(format!("leader: {trouble}"));
        }
    }
    failing
}

/// Tells systemd, if it started us and wants to know. A node does not fail because nobody listens.
pub(super) fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = sent {
        tracing::debug!("NOTIFY_SOCKET: {error}");
    }
}

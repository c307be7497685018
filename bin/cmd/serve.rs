//! `serve`: a node, until it is told to stop.

use std::net::{SocketAddr, ToSocketAddrs};

use walrus_node::{IoMode, Node, NodeConfig, NodeError, Options};

use crate::cli::Serve;
use crate::fail::{self, Exit, Failure};
use crate::{logging, remote};

pub(crate) fn run(args: Serve, io: IoMode) -> Result<(), Failure> {
    let config = NodeConfig {
        listen: Some(address("--listen", &args.listen)?),
        admin: Some(address("--admin", &args.admin)?),
        tls: args.tls,
        follow: args.follow,
        slot: args.slot,
        options: Options { io, check_bytes_max: super::CHECK_BYTES_MAX, ..Options::default() },
        ..NodeConfig::new(args.data)
    };
    logging::start("info");
    let runtime = remote::runtime()?;
    let ended = runtime.block_on(Node::run(config)).map_err(failure);
    // Not dropped: that would wait for a disk that does not answer.
    runtime.shutdown_background();
    ended
}

fn address(flag: &str, text: &str) -> Result<SocketAddr, Failure> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| {
        let message = format!("{flag} {text} is not ADDR:PORT of this machine");
        Failure::new(Exit::Usage, message).hint(format!("for example {flag} 127.0.0.1:7400"))
    })
}

fn failure(error: NodeError) -> Failure {
    match error {
        // In the same words as every other command that opens this folder.
        NodeError::Open { data, source } => fail::open_to_serve(&data, &source),
        error => Failure::of_text(Exit::of(error.exit_code()), &error.to_string()),
    }
}

//! A node at the other end: connecting, and what its errors mean here.
//!
//! The work itself runs on the thread that called, so that printing may block it; the connection is kept alive by two others.

use tokio::runtime::{Builder, Runtime};
use walrus_node::{Client, ClientError};

use crate::at::NodeAt;
use crate::fail::{Exit, Failure};

/// A runtime for one command.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    let built = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(|error| Failure::new(Exit::Failed, format!("cannot start the threads of the network: {error}")))
}

/// Connects to a node, does `work` with it, and says goodbye.
pub(crate) fn with_node(node: &NodeAt, work: impl AsyncFnOnce(&Client) -> Result<(), Failure>) -> Result<(), Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let client = Client::connect(&node.address, &node.tls).await.map_err(|error| failure(node, &error))?;
        let done = work(&client).await;
        client.close().await;
        done
    });
    // A look-up of a name that hangs must not hold up the end.
    runtime.shutdown_background();
    done
}

/// A request failed.
pub(crate) fn failure(node: &NodeAt, error: &ClientError) -> Failure {
    let exit = Exit::of(error.exit_code());
    let flags = node.flags();
    match error {
        ClientError::AppendLost { source, unknown_batches, .. } => {
            let failure = failure(node, source);
            match unknown_batches {
                0 => failure,
                n => failure
                    .note(format!("of {n} further batches it is not known; each is there as a whole or not at all")),
            }
        }
        ClientError::UnknownTopic { .. } => {
            Failure::of_text(exit, &at(node, error)).hint(format!("walrus-node topics {flags}"))
        }
        ClientError::Unreachable { .. } | ClientError::BadAddress { .. } => Failure::of_text(exit, &error.to_string()),
        _ => Failure::of_text(exit, &at(node, error)),
    }
}

/// Who said it, before what was said.
fn at(node: &NodeAt, error: &ClientError) -> String {
    format!("node {}: {error}", node.address)
}

//! Where the log is that a command is about: `--data DIR` or `--node HOST:PORT --tls DIR`, or their environment variables.

use std::path::{Path, PathBuf};

use crate::cli::Place;
use crate::fail::{Exit, Failure};

/// A folder of this machine, or a node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum At {
    Folder(PathBuf),
    Node(NodeAt),
}

/// A node, and the certificate to show it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NodeAt {
    pub(crate) address: String,
    pub(crate) tls: PathBuf,
}

impl Place {
    /// What was typed counts; the environment only where nothing was. `command` is what the hints begin with.
    pub(crate) fn resolve(self, command: &str) -> Result<At, Failure> {
        let from_env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let (data, node) = match (self.data, self.node) {
            (None, None) => {
                let node = from_env("WALRUS_NODE").map(|node| node.to_string_lossy().into_owned());
                (from_env("WALRUS_DATA").map(PathBuf::from), node)
            }
            typed => typed,
        };
        match (data, node) {
            (Some(data), None) => Ok(At::Folder(data)),
            (None, Some(address)) => with_certificate(address, self.tls, command).map(At::Node),
            (None, None) => Err(Failure::new(Exit::Usage, "neither a folder nor a node is named")
                .hint(format!("{command} --data DIR"))
                .hint(format!("{command} --node HOST:PORT --tls DIR"))),
            (Some(data), Some(node)) => {
                let message = format!("WALRUS_DATA ({}) and WALRUS_NODE ({node}) are both set", data.display());
                Err(Failure::new(Exit::Usage, message).hint(format!("name one of them: {command} --node {node}")))
            }
        }
    }
}

fn with_certificate(address: String, tls: Option<PathBuf>, command: &str) -> Result<NodeAt, Failure> {
    match tls {
        Some(tls) => Ok(NodeAt { address, tls }),
        None => {
            let message = format!("the node at {address} asks for a certificate, and --tls names none");
            Err(Failure::new(Exit::NotAllowed, message).hint(format!(
                "{command} --node {address} --tls DATA/tls/admin   (DATA: the node's folder; or a folder made by \
                 `walrus-node cert issue`)"
            )))
        }
    }
}

impl NodeAt {
    /// The flags that name it again, for hints.
    pub(crate) fn flags(&self) -> String {
        format!("--node {} --tls {}", self.address, typed(&self.tls))
    }
}

/// A path as it is typed.
pub(crate) fn typed(path: &Path) -> String {
    crate::text::shell(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_a_certificate_is_not_allowed_and_the_hint_names_the_admins() {
        let place = Place { data: None, node: Some("h:1".into()), tls: None };
        let failure = place.resolve("walrus-node topics").unwrap_err();
        assert_eq!(failure.exit(), Exit::NotAllowed);
        assert!(format!("{failure:?}").contains("walrus-node topics --node h:1 --tls DATA/tls/admin"));
    }

    #[test]
    fn a_folder_that_was_typed_is_a_folder() {
        let place = Place { data: Some("d".into()), node: None, tls: Some("t".into()) };
        assert_eq!(place.resolve("x").unwrap(), At::Folder("d".into()));
    }
}

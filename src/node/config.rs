//! What a node is told.
//!
//! Layer: node. Uses `net` for certificates. Reads no file yet: every field has a flag.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::NodeError;
use crate::engine::Options;
use crate::net::cert::{self, Request};
use crate::wire::rights::{Role, is_name};

/// Where a node listens when nobody says where.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7400);
/// Where its admin pages are when nobody says where.
const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7401);

/// The names of the certificates that a node without `--tls` makes for itself.
const OWN_NODE: &str = "node";
const OWN_ADMIN: &str = "admin";

/// How a node is run. Only `data` is needed.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The folder of its log. Made when missing.
    pub data: PathBuf,
    /// Where it listens. Default 127.0.0.1:7400; another address than a loopback one needs `tls`. Port 0: the system chooses.
    pub listen: Option<SocketAddr>,
    /// Where its admin pages are. Default 127.0.0.1:7401; they have no password, so keep them there.
    pub admin: Option<SocketAddr>,
    /// A folder made by `cert issue` with role node. Default: the node makes all of it in `data/tls`.
    pub tls: Option<PathBuf>,
    /// HOST:PORT of the leader, for a follower. Default: it is a leader.
    pub follow: Option<String>,
    /// What a follower is called in its leader's status. Default: its certificate's name.
    pub slot: Option<String>,
    /// How the log is opened.
    pub options: Options,
}

impl NodeConfig {
    /// A leader on loopback, with its log in `data`.
    pub fn new(data: impl Into<PathBuf>) -> NodeConfig {
        NodeConfig {
            data: data.into(),
            listen: None,
            admin: None,
            tls: None,
            follow: None,
            slot: None,
            options: Options::default(),
        }
    }

    pub(super) fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or(LISTEN_DEFAULT)
    }

    pub(super) fn admin(&self) -> SocketAddr {
        self.admin.unwrap_or(ADMIN_DEFAULT)
    }

    /// Refuses what cannot work, before anything is opened or made.
    pub(super) fn check(&self) -> Result<(), NodeError> {
        let listen = self.listen();
        if self.tls.is_none() && !listen.ip().is_loopback() {
            return Err(NodeError::Usage(format!(
                "--listen {listen} without --tls: a node without certificates of its own listens on loopback only\n\
                 hint: walrus-node cert init CA && walrus-node cert issue CA NAME --role node --san HOST, then --tls CA/NAME"
            )));
        }
        if self.tls.is_none() && self.follow.is_some() {
            return Err(NodeError::NoTls(
                "--follow needs --tls: leader and follower need certificates of one CA\n\
                 hint: a leader without --tls has its CA in DATA/tls: walrus-node cert issue LEADER-DATA/tls NAME --role node, \
                 then --tls LEADER-DATA/tls/NAME"
                    .into(),
            ));
        }
        match &self.slot {
            Some(slot) if !is_name(slot) => {
                Err(NodeError::Usage(format!("--slot {slot:?}: letters, digits, '.', '_' and '-', at most 64")))
            }
            _ => Ok(()),
        }
    }

    /// The folder with our certificate. Without `--tls` everything is made in `data/tls`, once.
    pub(super) fn tls_folder(&self) -> Result<PathBuf, NodeError> {
        if let Some(folder) = &self.tls {
            return Ok(folder.clone());
        }
        let dir = self.data.join("tls");
        let (node, admin) = (dir.join(OWN_NODE), dir.join(OWN_ADMIN));
        if !dir.join(cert::CA_FILE).exists() {
            cert::init(&dir, cert::CLUSTER_DEFAULT)?;
        }
        for (name, role, folder) in [(OWN_NODE, Role::Node, &node), (OWN_ADMIN, Role::Admin, &admin)] {
            if !folder.exists() {
                cert::issue(&dir, &Request { name: name.into(), role, topics: Vec::new(), hosts: Vec::new() })?;
            }
        }
        tracing::info!(
            "no --tls: this node uses certificates of its own, on loopback only; for commands on this machine: --tls {}",
            admin.display()
        );
        Ok(node)
    }
}

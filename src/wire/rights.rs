//! Who may do what: docs/PROTOCOL.md#identity-and-rights
//!
//! A peer is who its certificate says, `walrus://CLUSTER/ROLE/NAME?topics=GLOB&topics=GLOB`. What is not allowed here is
//! refused; there is no default that allows.
//!
//! Layer: wire. Knows nothing of certificates beyond this one line of text.

use std::fmt;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// A node of the cluster: serves, follows, and may do all that an admin may.
    Node,
    /// Appends.
    Producer,
    /// Reads.
    Consumer,
    /// The person at the keyboard.
    Admin,
}

impl Role {
    const ALL: [Role; 4] = [Role::Node, Role::Producer, Role::Consumer, Role::Admin];

    /// The role as it stands in a certificate and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Producer => "producer",
            Role::Consumer => "consumer",
            Role::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Role, String> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("no role is called {text:?}: node, producer, consumer or admin"))
    }
}

/// What a peer wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Get the whole log, block by block.
    Follow,
    /// Append to a topic.
    Append,
    /// Read a topic.
    Read,
    /// See which topics there are.
    ListTopics,
    /// See how the node is.
    Status,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Follow => "follow",
            Action::Append => "append",
            Action::Read => "read",
            Action::ListTopics => "list topics",
            Action::Status => "see the status",
        })
    }
}

/// Who a certificate says somebody is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) role: Role,
    pub(crate) name: String,
    /// Which topics it may touch; none named means all.
    pub(crate) topics: Vec<String>,
}

const SCHEME: &str = "walrus://";
const TOPICS_PREFIX: &str = "topics=";
/// Bytes of a cluster's or a node's name, so that it fits a log line.
pub(crate) const NAME_BYTES_MAX: usize = 64;

impl Identity {
    /// The line that goes into the certificate.
    pub(crate) fn to_uri(&self) -> String {
        let globs: Vec<String> =
            self.topics.iter().map(|glob| format!("{TOPICS_PREFIX}{}", percent_encode(glob))).collect();
        let query = if globs.is_empty() { String::new() } else { format!("?{}", globs.join("&")) };
        format!("{SCHEME}{}/{}/{}{query}", self.cluster, self.role, self.name)
    }

    /// Reads that line. `None`: it is not one of ours, or says something that this program does not understand, and
    /// what is not understood gives no rights.
    pub(crate) fn parse(uri: &str) -> Option<Identity> {
        let (path, query) = match uri.strip_prefix(SCHEME)?.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (uri.strip_prefix(SCHEME)?, None),
        };
        let mut parts = path.split('/');
        let (cluster, role, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !is_name(cluster) || !is_name(name) {
            return None;
        }
        let topics = match query {
            None => Vec::new(),
            Some(query) => query
                .split('&')
                .map(|part| part.strip_prefix(TOPICS_PREFIX).and_then(percent_decode))
                .collect::<Option<_>>()?,
        };
        Some(Identity { cluster: cluster.to_owned(), role: role.parse().ok()?, name: name.to_owned(), topics })
    }

    /// Whether its role allows `action` at all.
    pub(crate) fn may(&self, action: Action) -> bool {
        match self.role {
            Role::Node | Role::Admin => match action {
                // A certificate that is bound to topics must not get the whole log.
                Action::Follow => self.topics.is_empty(),
                _ => true,
            },
            Role::Producer => matches!(action, Action::Append | Action::ListTopics),
            Role::Consumer => matches!(action, Action::Read | Action::ListTopics),
        }
    }

    /// Whether it may touch that topic.
    pub(crate) fn may_touch(&self, topic: &str) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|glob| glob_matches(glob.as_bytes(), topic.as_bytes()))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of cluster {}", self.role, self.name, self.cluster)
    }
}

/// Whether `name` may stand in a certificate and name a folder: no separator, nothing a shell or a log line stumbles over.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain) && !name.starts_with('.')
}

/// `*` stands for any bytes, everything else for itself. Linear but for the one star to come back to.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if glob.get(g) == Some(&b'*') {
            star = Some((g, t));
            g += 1;
        } else if glob.get(g) == Some(&text[t]) {
            g += 1;
            t += 1;
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            g = star_at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-*".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(role: Role, topics: &[&str]) -> Identity {
        let topics = topics.iter().map(|&glob| glob.to_owned()).collect();
        Identity { cluster: "walrus".into(), role, name: "n1".into(), topics }
    }

    #[test]
    fn an_identity_comes_back_from_its_certificate_line() {
        for topics in [&[][..], &["orders.*"], &["a b&c=?", "größe/*"]] {
            let there = identity(Role::Producer, topics);
            assert!(there.to_uri().is_ascii());
            assert_eq!(Identity::parse(&there.to_uri()), Some(there));
        }
        assert_eq!(identity(Role::Node, &[]).to_uri(), "walrus://walrus/node/n1");
    }

    #[test]
    fn a_line_that_is_not_understood_gives_no_identity() {
        let lines = [
            "",
            "https://walrus/node/n1",
            "walrus://walrus/node",
            "walrus://walrus/node/",
            "walrus://walrus/node/n1/more",
            "walrus://walrus/king/n1",
            "walrus://walrus/node/../n1",
            "walrus://walrus/producer/n1?rights=none",
            "walrus://walrus/producer/n1?topics=%zz",
            "walrus://walrus/producer/n1?topics=%f",
            "walrus://walrus/producer/n1?",
        ];
        for line in lines {
            assert_eq!(Identity::parse(line), None, "{line}");
        }
    }

    #[test]
    fn each_role_may_do_its_own_and_nothing_else() {
        use Action::{Append, Follow, ListTopics, Read, Status};
        let may = |role| [Follow, Append, Read, ListTopics, Status].map(|action| identity(role, &[]).may(action));
        assert_eq!(may(Role::Node), [true; 5]);
        assert_eq!(may(Role::Admin), [true; 5]);
        assert_eq!(may(Role::Producer), [false, true, false, true, false]);
        assert_eq!(may(Role::Consumer), [false, false, true, true, false]);
        assert!(!identity(Role::Node, &["a*"]).may(Follow), "bound to topics, so not the whole log");
    }

    #[test]
    fn globs_match_whole_names_and_end_on_hostile_ones() {
        let matches = |glob: &str, topic: &str| identity(Role::Producer, &[glob]).may_touch(topic);
        assert!(matches("orders.*", "orders.eu") && matches("*", "x") && matches("a*c*e", "abcde"));
        assert!(matches("orders", "orders") && matches("*.eu", "a.b.eu"));
        assert!(!matches("orders.*", "orders") && !matches("orders", "orders.eu") && !matches("", "x"));
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
        assert!(identity(Role::Producer, &[]).may_touch("anything"));
    }
}

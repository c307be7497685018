//! Topic names that the engine would refuse, in a form that it takes.
//!
//! A name that it takes stays as it is, so that other users of the log find it. In one that it refuses, `%`, `/` and control characters
//! are percent-encoded; and so is a name that looks encoded already, or two names could meet. Nothing else changes, and no two names
//! become one.
//!
//! Layer: faces.

use std::fmt::Write;

use super::error;
use crate::topic::check_name;

/// The empty name: the sign of the empty set, which no other name is encoded to, since letters stay.
const EMPTY: &str = "%E2%88%85";

/// The topic's name in the log.
///
/// # Errors
/// `InvalidInput`: it is too long, encoded or not.
pub(super) fn to_log(name: &str) -> std::io::Result<String> {
    let encoded = encode(name);
    check_name(&encoded).map_err(|invalid| error::invalid_input(format!("the topic's name is no good: {invalid}")))?;
    Ok(encoded)
}

/// The name that `to_log` made this of; a name that it makes of none stays as it is.
pub(super) fn from_log(encoded: &str) -> String {
    if encoded == EMPTY {
        return String::new();
    }
    decode(encoded).filter(|name| encode(name) == encoded).unwrap_or_else(|| encoded.to_owned())
}

fn encode(name: &str) -> String {
    if name.is_empty() {
        return EMPTY.to_owned();
    }
    let refused = |c: char| c == '/' || c.is_control();
    if !name.contains(refused) && !looks_encoded(name) {
        return name.to_owned();
    }
    let mut encoded = String::with_capacity(name.len() + 16);
    for c in name.chars() {
        if refused(c) || c == '%' {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                write!(encoded, "%{byte:02X}").expect("writing to a string does not fail");
            }
        } else {
            encoded.push(c);
        }
    }
    encoded
}

fn hex(bytes: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match bytes {
        [b'%', high, low, ..] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    }
}

fn looks_encoded(name: &str) -> bool {
    (0..name.len()).any(|at| hex(&name.as_bytes()[at..]).is_some())
}

fn decode(encoded: &str) -> Option<String> {
    let bytes = encoded.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let (byte, len) = hex(&bytes[at..]).map_or((bytes[at], 1), |byte| (byte, 3));
        decoded.push(byte);
        at += len;
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn names_stay_if_they_can_and_come_back_as_they_were() {
        for name in ["orders", "größe", "50% off", "100%", "%", "a b", "..", "%zz"] {
            assert_eq!(to_log(name).unwrap(), name);
        }
        assert_eq!(to_log("eu/orders\n").unwrap(), "eu%2Forders%0A");
        assert_eq!(to_log("eu%2Forders").unwrap(), "eu%252Forders");
        assert_eq!(to_log("50%/day").unwrap(), "50%25%2Fday");
        assert!(to_log(&"x".repeat(256)).is_err() && to_log(&"/".repeat(100)).is_err());
        assert_eq!(from_log("a%20b"), "a%20b", "another user's name");
    }

    /// All names of up to five of these characters: each is taken, comes back, and none meets another.
    #[test]
    fn no_two_names_become_one() {
        let characters = ['%', '/', '2', 'F', 'f', '\u{85}', '∅'];
        let mut names = vec![String::new()];
        let mut last = names.clone();
        for _ in 0..5 {
            last = last.iter().flat_map(|name| characters.map(|c| format!("{name}{c}"))).collect();
            names.extend(last.iter().cloned());
        }
        names.extend(["%E2%88%85", "%25E2%2588%2585", "%C2%85", "%2f"].map(String::from));
        let mut seen = HashMap::new();
        for name in names {
            let encoded = to_log(&name).unwrap();
            assert_eq!(from_log(&encoded), name, "{encoded}");
            if let Some(other) = seen.insert(encoded.clone(), name.clone()) {
                assert_eq!(other, name, "both are {encoded}");
            }
        }
    }
}

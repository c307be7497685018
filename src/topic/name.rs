//! What may be a topic's name.
//!
//! Layer: topic.

use crate::limits::TOPIC_NAME_BYTES_MAX;

/// Why a string cannot be a topic's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a topic's name has 1 to 255 bytes of UTF-8 without `/` and control characters: {reason}")]
pub struct InvalidName {
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Checks that `name` can be a topic: 1 to 255 bytes, no `/`, no control characters. Names are never part of a path, so nothing
/// else is refused.
///
/// # Errors
/// When it cannot; the error says why.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > TOPIC_NAME_BYTES_MAX {
        "it is longer"
    } else if name.contains('/') {
        "it has a `/`"
    } else if name.chars().any(char::is_control) {
        "it has a control character"
    } else {
        return Ok(());
    };
    Err(InvalidName { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_have_no_slash_and_no_control_characters() {
        for good in ["a", "orders.eu", "größe", &"x".repeat(255), " ", ".."] {
            assert_eq!(check_name(good), Ok(()), "{good:?}");
        }
        for bad in ["", "a/b", "/", "a\0", "a\nb", "\u{7f}", "\u{85}", &"x".repeat(256)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}

//! TEMPORARY stand-in, replaced at the merge.

/// A topic name that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("topic name {name:?}: {why}")]
pub struct InvalidName {
    name: String,
    why: &'static str,
}

/// 1 to 255 bytes of UTF-8, no '/', no control characters.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > 255 {
        "it is longer than 255 bytes"
    } else if name.contains('/') {
        "it contains '/'"
    } else if name.chars().any(char::is_control) {
        "it contains a control character"
    } else {
        return Ok(());
    };
    Err(InvalidName { name: name.chars().take(40).collect(), why })
}

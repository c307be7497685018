//! Where a tail begins: `start`, `end`, `N`, `-N`, `@TIME`.

use std::str::FromStr;

use crate::text::parse_time_ns;

/// A place in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The first entry that is still there.
    First,
    /// Behind the last one.
    End,
    /// This offset.
    Offset(u64),
    /// So many entries before the end.
    Last(u64),
    /// The first entry at this time (nanoseconds since 1970) or later.
    Time(u64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Start, String> {
        let number = |digits: &str| digits.parse().map_err(|_| format!("{digits:?} is not a number of entries"));
        match text {
            "start" => Ok(Start::First),
            "end" => Ok(Start::End),
            _ => match (text.strip_prefix('-'), text.strip_prefix('@')) {
                (Some(last), _) => number(last).map(Start::Last),
                (_, Some(time)) => parse_time_ns(time).map(Start::Time),
                _ => number(text).map(Start::Offset).map_err(|_| "it is start, end, N, -N or @TIME".to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_nothing_else() {
        let read = |text: &str| text.parse::<Start>();
        assert_eq!(read("start"), Ok(Start::First));
        assert_eq!(read("end"), Ok(Start::End));
        assert_eq!(read("0"), Ok(Start::Offset(0)));
        assert_eq!(read("-10"), Ok(Start::Last(10)));
        assert_eq!(read("@1"), Ok(Start::Time(1_000_000_000)));
        for bad in ["", "-", "@", "-x", "1x", "+-1", "--1", "@tomorrow", "begin", "18446744073709551616"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}

//! The protocol of Redis, as far as a log needs it: commands out, answers in, many under way.
//!
//! docs: the RESP2 part of the Redis protocol specification. A command is an array of bulk strings; `+` `-` `:` `$` `*` begin an answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, bail, ensure};

const READ_BYTES: usize = 64 << 10;
/// So much is gathered before it goes out without being asked to.
const WRITE_BYTES: usize = 64 << 10;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Simple(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Array(Vec<Answer>),
    Nothing,
}

/// One connection. Commands wait in `out` until they are flushed, or until there are many of them.
pub(super) struct Connection<S = TcpStream> {
    input: BufReader<S>,
    output: S,
    out: Vec<u8>,
}

impl Connection<TcpStream> {
    pub(super) fn new(stream: TcpStream) -> Result<Connection> {
        Ok(Connection {
            input: BufReader::with_capacity(READ_BYTES, stream.try_clone()?),
            output: stream,
            out: Vec::new(),
        })
    }
}

impl<S: Read + Write> Connection<S> {
    /// Puts a command behind those that wait.
    pub(super) fn push<'a>(&mut self, parts: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<()> {
        write!(self.out, "*{}\r\n", parts.len())?;
        for part in parts {
            write!(self.out, "${}\r\n", part.len())?;
            self.out.extend_from_slice(part);
            self.out.extend_from_slice(b"\r\n");
        }
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.output.write_all(&self.out).context("sending")?;
        self.out.clear();
        Ok(())
    }

    /// The next answer. What waits goes out first, but for when an answer is here already: then there is more to gather.
    pub(super) fn answer(&mut self) -> Result<Answer> {
        if self.input.buffer().is_empty() {
            self.flush()?;
        }
        self.read()
    }

    /// One command, and its answer.
    pub(super) fn ask(&mut self, parts: &[&str]) -> Result<Answer> {
        self.push(parts.iter().map(|part| part.as_bytes()))?;
        self.flush()?;
        self.read()
    }

    fn read(&mut self) -> Result<Answer> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).context("an empty answer")?;
        Ok(match kind {
            "+" => Answer::Simple(rest.into()),
            "-" => bail!("it answered: {rest}"),
            ":" => Answer::Integer(rest.parse().with_context(|| format!("the integer {rest:?}"))?),
            "$" => match length(rest)? {
                None => Answer::Nothing,
                Some(len) => Answer::Bulk(self.bulk(len)?),
            },
            "*" => match length(rest)? {
                None => Answer::Nothing,
                Some(len) => Answer::Array((0..len).map(|_| self.read()).collect::<Result<_>>()?),
            },
            _ => bail!("no answer begins with {line:?}"),
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.input.read_line(&mut line).context("waiting for an answer")?;
        let whole = line.strip_suffix("\r\n").context("it closed the connection in the middle of an answer")?;
        Ok(whole.to_owned())
    }

    fn bulk(&mut self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len + 2];
        self.input.read_exact(&mut bytes).context("it closed the connection in the middle of an answer")?;
        ensure!(bytes.ends_with(b"\r\n"), "an answer of {len} bytes is longer than it says");
        bytes.truncate(len);
        Ok(bytes)
    }
}

/// `-1` is none at all.
fn length(text: &str) -> Result<Option<usize>> {
    match text.parse::<i64>().with_context(|| format!("the length {text:?}"))? {
        -1 => Ok(None),
        len => Ok(Some(usize::try_from(len).with_context(|| format!("the length {len}"))?)),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// What was written, and what is to be read.
    struct Wire {
        written: Vec<u8>,
        read: io::Cursor<Vec<u8>>,
    }

    impl Read for Wire {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.read.read(buf)
        }
    }

    impl Write for Wire {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.written.write(buf)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn wire(read: &[u8]) -> Wire {
        Wire { written: Vec::new(), read: io::Cursor::new(read.to_vec()) }
    }

    fn connection(read: &[u8]) -> Connection<Wire> {
        Connection { input: BufReader::new(wire(read)), output: wire(b""), out: Vec::new() }
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings_that_goes_out_when_an_answer_is_waited_for() {
        let mut connection = connection(b":3\r\n:4\r\n");
        connection.push([&b"RPUSH"[..], b"t", b"\r\n\0"].into_iter()).unwrap();
        assert!(connection.output.written.is_empty());
        assert_eq!(connection.answer().unwrap(), Answer::Integer(3));
        assert_eq!(connection.output.written, b"*3\r\n$5\r\nRPUSH\r\n$1\r\nt\r\n$3\r\n\r\n\0\r\n");
        // The next answer is here already: what waits may gather.
        connection.push([&b"PING"[..]].into_iter()).unwrap();
        assert_eq!(connection.answer().unwrap(), Answer::Integer(4));
        assert!(!connection.output.written.ends_with(b"PING\r\n"));
    }

    #[test]
    fn answers_of_every_kind_are_read() {
        let mut connection = connection(b"+OK\r\n$2\r\n\r\n\r\n*2\r\n$1\r\na\r\n:-7\r\n$-1\r\n*0\r\n");
        let mut next = || connection.read().unwrap();
        assert_eq!(next(), Answer::Simple("OK".into()));
        assert_eq!(next(), Answer::Bulk(b"\r\n".to_vec()));
        assert_eq!(next(), Answer::Array(vec![Answer::Bulk(b"a".to_vec()), Answer::Integer(-7)]));
        assert_eq!((next(), next()), (Answer::Nothing, Answer::Array(Vec::new())));
    }

    #[test]
    fn an_error_a_cut_and_nonsense_are_errors() {
        let error = |bytes: &[u8]| format!("{:#}", connection(bytes).read().unwrap_err());
        assert!(error(b"-MISCONF disk\r\n").contains("MISCONF disk"));
        assert!(error(b"$5\r\nab").contains("closed"));
        assert!(error(b":1").contains("closed") && error(b"").contains("closed"));
        assert!(error(b"$-2\r\n").contains("-2") && error(b"?\r\n").contains('?') && error(b"\r\n").contains("empty"));
        assert!(error(b"$1\r\nabc").contains("longer"));
    }
}

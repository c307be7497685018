//! Lines in, batches out: a line is an entry, an empty line an entry of zero bytes, and what stands behind the last newline counts too.
//! Only `\n` ends a line; a `\r` before it belongs to the entry.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::fail::{Exit, Failure};
use crate::text::shell;

/// No log takes a longer entry (a block has 1 MiB), so no more of a line than this is ever held in memory. The log itself refuses what
/// lies between its own bound and this one.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Nor does any take more bytes at once: a batch of 2,000 long lines is refused before it has filled the memory.
const BATCH_BYTES_MAX: usize = 8 << 20;

const STDIN: &str = "stdin";
const READ_BYTES: usize = 256 << 10;

/// A batch, and where it stood.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The number of its first line, from 1.
    pub(crate) first_line: u64,
    pub(crate) entries: Vec<Bytes>,
}

/// A source of batches.
pub(crate) struct Lines {
    source: Box<dyn BufRead + Send>,
    /// Its name, for messages.
    name: String,
    batch: usize,
    /// Lines read so far.
    line: u64,
}

impl Lines {
    /// Opens `file`, or stdin for `-`; each batch has `batch` lines, the last one perhaps fewer.
    pub(crate) fn open(file: &Path, batch: usize) -> Result<Lines, Failure> {
        let (source, name): (Box<dyn Read + Send>, _) = if file == Path::new("-") {
            (Box::new(io::stdin()), STDIN.to_owned())
        } else {
            let name = file.display().to_string();
            let opened = File::open(file).and_then(|file| {
                let is_folder = file.metadata()?.is_dir();
                if is_folder { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
            });
            let cannot = |error| Failure::new(Exit::Failed, format!("cannot read {name}: {error}"));
            (Box::new(opened.map_err(|error| cannot(error).hint(similar(file)))?), name)
        };
        Ok(Lines { source: Box::new(BufReader::with_capacity(READ_BYTES, source)), name, batch, line: 0 })
    }

    /// Where the lines come from.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The next batch; `None` at the end.
    pub(crate) fn next_batch(&mut self) -> Result<Option<Batch>, Failure> {
        let (first_line, mut entries, mut bytes) = (self.line + 1, Vec::with_capacity(self.batch), 0);
        while entries.len() < self.batch {
            let Some(line) = self.next_line()? else { break };
            bytes += line.len();
            if bytes > BATCH_BYTES_MAX {
                let Lines { name, line, batch, .. } = self;
                let message = format!(
                    "lines {first_line} to {line} of {name} are {bytes} bytes together: more than a batch can have"
                );
                return Err(
                    Failure::new(Exit::Usage, message).hint(format!("fewer lines in a batch: --batch {}", *batch / 2))
                );
            }
            entries.push(line);
        }
        Ok((!entries.is_empty()).then_some(Batch { first_line, entries }))
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, Failure> {
        let mut line = Vec::new();
        // One byte for the newline, and one to tell a line that is too long.
        let read = self.source.by_ref().take(LINE_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line);
        let read = read.map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot read line {} of {}: {error}", self.line + 1, self.name))
        })?;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(too_long(self.line, &self.name, LINE_BYTES_MAX as u64));
        }
        Ok(Some(line.into()))
    }
}

/// A line that is longer than an entry can be.
pub(crate) fn too_long(line: u64, name: &str, bytes_max: u64) -> Failure {
    let message = format!("line {line} of {name} is too long for an entry: it has more than {bytes_max} bytes");
    let failure = Failure::new(Exit::Usage, message);
    if name == STDIN { failure } else { failure.hint(format!("sed -n {line}p {} | head -c 200", shell(name))) }
}

/// What to type when a file is not there.
fn similar(file: &Path) -> String {
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(PathBuf::from("."), Path::to_owned);
    format!("ls {}", crate::at::typed(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &'static [u8], batch: usize) -> Lines {
        Lines { source: Box::new(bytes), name: "test".into(), batch, line: 0 }
    }

    fn all(mut lines: Lines) -> Vec<Vec<Bytes>> {
        std::iter::from_fn(|| lines.next_batch().unwrap()).map(|batch| batch.entries).collect()
    }

    #[test]
    fn empty_lines_carriage_returns_and_a_last_line_without_newline_are_entries() {
        assert_eq!(all(lines(b"a\n\nb\r\n\r\nlast", 2)), [vec!["a", ""], vec!["b\r", "\r"], vec!["last"]]);
        assert_eq!(all(lines(b"", 2)), Vec::<Vec<Bytes>>::new());
        assert_eq!(all(lines(b"\n", 2)), [vec![""]]);
        assert_eq!(all(lines(b"a\n", 2)), [vec!["a"]]);
    }

    #[test]
    fn a_line_that_no_log_takes_is_named_and_not_held() {
        let text: &'static [u8] = Box::leak([b"ok\n".to_vec(), vec![b'x'; 3 << 20]].concat().into_boxed_slice());
        let mut lines = lines(text, 1);
        assert_eq!(lines.next_batch().unwrap().unwrap().entries, ["ok"]);
        let failure = lines.next_batch().unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(format!("{failure:?}").contains("line 2 of test"), "{failure:?}");
    }

    #[test]
    fn a_batch_with_more_bytes_than_any_log_takes_is_refused() {
        let text: &'static [u8] = Box::leak([vec![b'x'; 1 << 20], vec![b'\n']].concat().repeat(9).into_boxed_slice());
        let failure = lines(text, 2000).next_batch().unwrap_err();
        assert!(format!("{failure:?}").contains("lines 1 to 9 of test"), "{failure:?}");
        assert_eq!(all(lines(text, 8)).len(), 2);
    }
}

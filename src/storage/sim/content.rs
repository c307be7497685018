//! The bytes of a simulated file, shared until they are changed.
//!
//! A crash test makes tens of thousands of disks that differ in a few sectors. So a file is a table of pages, and a copy of
//! it is one reference; a page that nobody wrote is not there and reads as zeros.
//!
//! Layer: storage. Uses std. Knows nothing of names, traces or what is durable.

use std::sync::Arc;

/// What a device writes or does not write, as a whole.
pub(crate) const SECTOR: usize = 512;

const PAGE: usize = 4096;

#[derive(Clone, Default)]
pub(crate) struct Content {
    len: u64,
    pages: Arc<Vec<Option<Arc<[u8; PAGE]>>>>,
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Makes it at least `len` bytes long; what is new reads as zeros.
    pub(crate) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Fills `buf`; `false` if the file ends before that.
    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> bool {
        if offset + buf.len() as u64 > self.len {
            return false;
        }
        let mut done = 0;
        while done < buf.len() {
            let Piece { page, start, len } = Piece::at(offset + done as u64, buf.len() - done);
            let into = &mut buf[done..done + len];
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(bytes) => into.copy_from_slice(&bytes[start..start + len]),
                None => into.fill(0),
            }
            done += len;
        }
        true
    }

    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        while done < bytes.len() {
            let piece = Piece::at(offset + done as u64, bytes.len() - done);
            let from = &bytes[done..done + piece.len];
            self.page_mut(piece.page)[piece.start..piece.start + piece.len].copy_from_slice(from);
            done += piece.len;
        }
        self.grow(offset + bytes.len() as u64);
    }

    /// Turns one bit over.
    pub(crate) fn flip(&mut self, byte: u64, bit: u8) {
        assert!(byte < self.len, "byte {byte} of a file of {} bytes", self.len);
        assert!(bit < 8, "a byte has no bit {bit}");
        let piece = Piece::at(byte, 1);
        self.page_mut(piece.page)[piece.start] ^= 1 << bit;
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8; PAGE] {
        let pages = Arc::make_mut(&mut self.pages);
        if pages.len() <= page {
            pages.resize(page + 1, None);
        }
        Arc::make_mut(pages[page].get_or_insert_with(|| Arc::new([0; PAGE])))
    }
}

/// The part of a range that lies in one page.
struct Piece {
    page: usize,
    start: usize,
    len: usize,
}

impl Piece {
    fn at(offset: u64, len: usize) -> Piece {
        let start = (offset % PAGE as u64) as usize;
        Piece { page: (offset / PAGE as u64) as usize, start, len: len.min(PAGE - start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_written_reads_as_zeros_up_to_the_end() {
        let mut content = Content::default();
        content.write(b"x", 5000);
        let mut buf = [9; 5001];
        assert!(content.read(&mut buf, 0));
        assert!(buf[..5000].iter().all(|byte| *byte == 0));
        assert_eq!(buf[5000], b'x');
        assert!(!content.read(&mut buf, 1));
    }

    #[test]
    fn a_copy_does_not_change_with_its_original() {
        let mut content = Content::default();
        content.write(&[1; 10_000], 0);
        let copy = content.clone();
        content.write(&[2; 512], 4096);
        content.flip(0, 3);
        let mut buf = [0; 10_000];
        assert!(copy.read(&mut buf, 0));
        assert!(buf.iter().all(|byte| *byte == 1));
    }
}

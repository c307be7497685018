//! Little-endian fields at fixed offsets: docs/FORMAT.md#numbers
//!
//! Parsed field by field: a cast of unchecked bytes to a struct would make padding and alignment part of the format.
//!
//! Layer: format. Knows nothing of what the fields mean.

/// Reads `N` bytes at `at`. The caller has bounded `at`; a miss is a bug here, not bad input, so it panics.
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

macro_rules! int {
    ($get:ident, $put:ident, $int:ty) => {
        pub(crate) fn $get(bytes: &[u8], at: usize) -> $int {
            <$int>::from_le_bytes(take(bytes, at))
        }

        pub(crate) fn $put(bytes: &mut [u8], at: usize, value: $int) {
            let raw = value.to_le_bytes();
            bytes[at..at + raw.len()].copy_from_slice(&raw);
        }
    };
}

int!(get_u16, put_u16, u16);
int!(get_u32, put_u32, u32);
int!(get_u64, put_u64, u64);
int!(get_u128, put_u128, u128);

/// Whether all bytes are zero. Reserved fields must be, so that a later version can give them a meaning.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

/// A cursor over bytes of variable layout (control entries, base): every step is bounded.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader { bytes, what }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], super::Corrupt> {
        if len > self.bytes.len() {
            return Err(super::Corrupt::Short { what: self.what });
        }
        let (head, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        Ok(head)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, super::Corrupt> {
        Ok(get_u16(self.bytes(2)?, 0))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, super::Corrupt> {
        Ok(get_u32(self.bytes(4)?, 0))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, super::Corrupt> {
        Ok(get_u64(self.bytes(8)?, 0))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, super::Corrupt> {
        Ok(get_u128(self.bytes(16)?, 0))
    }

    /// How many bytes are left; a count is bounded by it before anything is reserved for it.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len()
    }
}

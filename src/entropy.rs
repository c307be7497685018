//! Random numbers: ids, salts, jitter.
//!
//! From the operating system, or from a seed that a test has chosen: the only place where chance enters the program.
//!
//! Layer 0. Knows nothing of what the numbers are for. Not for keys: TLS brings its own.

/// A source of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Entropy {
    state: u64,
    /// Ids are mixed with fresh bits from the operating system: 64 bits of state would make two logs in 2^32 alike.
    from_os: bool,
}

impl Entropy {
    /// Seeded from the operating system, or with `seed`.
    pub(crate) fn new(seed: Option<u64>) -> Entropy {
        Entropy { state: seed.unwrap_or_else(os_random), from_os: seed.is_none() }
    }

    /// The next 64 bits: SplitMix64 (Steele, Lea, Flood 2014).
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A random id of 128 bits.
    pub(crate) fn next_u128(&mut self) -> u128 {
        let low = if self.from_os { os_random() } else { self.next_u64() };
        u128::from(self.next_u64()) << 64 | u128::from(low)
    }

    /// An independent source for another thread.
    pub(crate) fn fork(&mut self) -> Entropy {
        Entropy { state: self.next_u64(), from_os: self.from_os }
    }
}

fn os_random() -> u64 {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("Linux has getrandom since 3.17, and 8 bytes come whole");
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_the_system_does_not() {
        let (mut a, mut b) = (Entropy::new(Some(7)), Entropy::new(Some(7)));
        assert_eq!(a.next_u128(), b.next_u128());
        assert_ne!(Entropy::new(None).next_u64(), Entropy::new(None).next_u64());
    }
}

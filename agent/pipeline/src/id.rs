//! Trace and span ids: fast, random enough not to collide, never zero.
//!
//! In: a seed from the shell, which has the entropy. Out: ids. xoroshiro128++ (Blackman and Vigna): not for
//! secrets, which ids are not.

/// Generator of ids.
#[derive(Clone, Debug)]
pub struct Ids {
    state: [u64; 2],
}

impl Ids {
    /// A generator; equal seeds give equal ids. Any seed will do, zero included.
    pub fn new(seed: [u64; 2]) -> Self {
        let mut mix = seed[0];
        let low = split_mix(&mut mix);
        mix ^= seed[1].rotate_left(32);
        let high = split_mix(&mut mix);
        // The all-zero state is the only one that never leaves itself.
        Self { state: if low | high == 0 { [1, 2] } else { [low, high] } }
    }

    /// A trace id; all 16 bytes are random, so the W3C `random` flag may be set.
    #[inline]
    pub fn trace_id(&mut self) -> [u8; 16] {
        let id = (u128::from(self.nonzero()) << 64) | u128::from(self.nonzero());
        id.to_be_bytes()
    }

    /// A span id.
    #[inline]
    pub fn span_id(&mut self) -> [u8; 8] {
        self.nonzero().to_be_bytes()
    }

    #[inline]
    fn nonzero(&mut self) -> u64 {
        // Zero comes once in 2^64 draws and never twice in a row.
        match self.next() {
            0 => self.next() | 1,
            id => id,
        }
    }

    #[inline]
    fn next(&mut self) -> u64 {
        let [low, mut high] = self.state;
        let id = low.wrapping_add(high).rotate_left(17).wrapping_add(low);
        high ^= low;
        self.state = [low.rotate_left(49) ^ high ^ (high << 21), high.rotate_left(28)];
        id
    }
}

/// SplitMix64 (Steele, Lea and Flood): spreads a seed over all bits.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_distinct_and_never_zero() {
        for seed in [[0, 0], [0, 1], [1, 0], [u64::MAX, u64::MAX]] {
            let mut ids = Ids::new(seed);
            let mut seen = HashSet::new();
            for _ in 0..10_000 {
                let (trace, span) = (ids.trace_id(), ids.span_id());
                assert!(trace != [0; 16] && span != [0; 8]);
                assert!(seen.insert(span) && seen.insert(trace[8..].try_into().unwrap()));
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let first = |seed| Ids::new(seed).trace_id();
        assert_eq!(first([1, 2]), first([1, 2]));
        assert_eq!(HashSet::from([first([1, 2]), first([2, 1]), first([1, 3]), first([0, 0])]).len(), 4);
    }

    #[test]
    fn every_bit_is_used() {
        let mut ids = Ids::new([7, 9]);
        let mut ones = [0u32; 64];
        for _ in 0..4096 {
            let id = u64::from_be_bytes(ids.span_id());
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += u32::from(id >> bit & 1 == 1);
            }
        }
        assert!(ones.iter().all(|count| (1800..2300).contains(count)), "{ones:?}");
    }
}

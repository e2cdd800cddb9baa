//! Latency in log-linear buckets: eight to an octave, so that a bucket's bounds are at most an eighth apart.
//!
//! In: durations in nanoseconds. Out: counts and quantiles, interpolated inside a bucket and never above the greatest
//! duration seen. From 1 µs to 137 s; what is outside goes into the first or the last bucket.

/// Number of buckets.
pub const BUCKETS: usize = 208;

const SUB_BITS: u32 = 3;
const SUBS: u64 = 1 << SUB_BITS;

/// The bucket that a duration belongs to.
#[inline]
pub fn bucket(duration_ns: u64) -> usize {
    let micros = duration_ns >> 10;
    if micros < SUBS {
        return micros as usize;
    }
    let exponent = 63 - micros.leading_zeros();
    let sub = (micros >> (exponent - SUB_BITS)) & (SUBS - 1);
    let index = SUBS + u64::from(exponent - SUB_BITS) * SUBS + sub;
    (index as usize).min(BUCKETS - 1)
}

/// Lower bound of a bucket in nanoseconds; that of the bucket after the last one is its upper bound.
pub fn lower_bound_ns(index: usize) -> u64 {
    let index = index as u64;
    if index < SUBS {
        return index << 10;
    }
    let (octave, sub) = ((index - SUBS) / SUBS, (index - SUBS) % SUBS);
    ((SUBS + sub) << octave) << 10
}

/// Figures of some requests together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Requests.
    pub count: u64,
    /// Those that failed.
    pub errors: u64,
    /// All durations together.
    pub sum_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Requests by duration.
    pub buckets: Box<[u32; BUCKETS]>,
}

impl Default for Figures {
    fn default() -> Self {
        Self { count: 0, errors: 0, sum_us: 0, max_us: 0, buckets: Box::new([0; BUCKETS]) }
    }
}

impl Figures {
    /// Takes one request.
    #[inline]
    pub fn add(&mut self, duration_ns: u64, failed: bool) {
        self.count += 1;
        self.errors += u64::from(failed);
        let micros = duration_ns.div_ceil(1000);
        self.sum_us = self.sum_us.saturating_add(micros);
        self.max_us = self.max_us.max(micros);
        let bucket = &mut self.buckets[bucket(duration_ns)];
        *bucket = bucket.saturating_add(1);
    }

    /// Takes those of another.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// The duration that a share of the requests stays within; 0 without requests.
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let total: u64 = self.buckets.iter().map(|&count| u64::from(count)).sum();
        if total == 0 {
            return 0;
        }
        let rank = ((total as f64 * share).ceil() as u64).clamp(1, total);
        let mut before = 0;
        for (index, &count) in self.buckets.iter().enumerate() {
            let count = u64::from(count);
            if before + count >= rank {
                let (low, high) = (lower_bound_ns(index), lower_bound_ns(index + 1));
                let inside = (rank - before) as f64 / count as f64;
                let value = low as f64 + (high - low) as f64 * inside;
                return (value as u64).min(self.max_us.saturating_mul(1000));
            }
            before += count;
        }
        self.max_us.saturating_mul(1000)
    }

    /// Nothing in it any more.
    pub fn clear(&mut self) {
        (self.count, self.errors, self.sum_us, self.max_us) = (0, 0, 0, 0);
        self.buckets.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_within_its_bucket() {
        for shift in 0..37 {
            for offset in [0, 1, 1023, 12_345, 999_999] {
                let duration = (1_u64 << shift) + offset;
                let index = bucket(duration);
                assert!(lower_bound_ns(index) <= duration, "{duration}");
                assert!(duration < lower_bound_ns(index + 1), "{duration}");
            }
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn quantiles_are_within_an_eighth_of_the_truth() {
        let mut figures = Figures::default();
        for value in 1..=10_000_u64 {
            figures.add(value * 10_000, value % 10 == 0);
        }
        assert_eq!((figures.count, figures.errors, figures.max_us), (10_000, 1000, 100_000));
        for (share, truth) in [(0.5, 50e6), (0.95, 95e6), (0.99, 99e6), (1.0, 100e6)] {
            let ratio = figures.quantile_ns(share) as f64 / truth;
            assert!((0.875..1.125).contains(&ratio), "{share}: {ratio}");
        }
        assert_eq!(Figures::default().quantile_ns(0.5), 0);
    }
}

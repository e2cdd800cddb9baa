//! Base-2 exponential histograms, by the rules of OpenTelemetry's metrics data model.
//!
//! In: positive values. Out: counts of buckets `(base^i, base^(i+1)]` with `base = 2^(2^-scale)`. The scale begins at
//! its finest and shrinks whenever the values need more than [`MAX_BUCKETS`] buckets; it never grows again.

/// Buckets of one histogram.
pub const MAX_BUCKETS: usize = 160;
/// Finest scale.
pub const MAX_SCALE: i32 = 20;
/// Coarsest scale: all normal numbers fit into two buckets.
const MIN_SCALE: i32 = -10;

/// Counts by the logarithm of the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exponential {
    scale: i32,
    zero_count: u64,
    /// Index of the first bucket.
    offset: i32,
    counts: Vec<u64>,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { scale: MAX_SCALE, zero_count: 0, offset: 0, counts: Vec::new() }
    }
}

impl Exponential {
    /// Counts a value; zero, subnormal and negative ones in the zero bucket.
    pub fn record(&mut self, value: f64) {
        if value < f64::MIN_POSITIVE || value.is_nan() {
            self.zero_count += 1;
            return;
        }
        let index = index_of(value, self.scale);
        let (low, high) = self.range_with(index);
        let shift = shift_to_fit(low, high);
        self.coarsen(shift);
        self.add(index >> shift, 1);
    }

    /// Scale.
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// Values too small for a bucket.
    pub fn zero_count(&self) -> u64 {
        self.zero_count
    }

    /// Index of the first bucket, and the counts from there on.
    pub fn buckets(&self) -> (i32, &[u64]) {
        (self.offset, &self.counts)
    }

    /// What was counted since `earlier`, which is this histogram at an earlier time.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut earlier = earlier.clone();
        earlier.coarsen((earlier.scale - self.scale).max(0).cast_unsigned());
        let mut since = self.clone();
        since.zero_count = since.zero_count.saturating_sub(earlier.zero_count);
        for (position, count) in since.counts.iter_mut().enumerate() {
            let index = self.offset + position as i32;
            let before = usize::try_from(index - earlier.offset).ok().and_then(|at| earlier.counts.get(at));
            *count = count.saturating_sub(before.copied().unwrap_or(0));
        }
        since
    }

    /// First and last bucket, if `index` is one of them.
    fn range_with(&self, index: i32) -> (i32, i32) {
        match self.counts.len() as i32 {
            0 => (index, index),
            len => (index.min(self.offset), index.max(self.offset + len - 1)),
        }
    }

    /// Joins neighbours `shift` times.
    fn coarsen(&mut self, shift: u32) {
        if shift == 0 {
            return;
        }
        self.scale -= shift.cast_signed();
        let first = self.offset >> shift;
        let mut used = 0;
        for position in 0..self.counts.len() {
            let target = (((self.offset + position as i32) >> shift) - first) as usize;
            let count = std::mem::take(&mut self.counts[position]);
            // The target is never behind the position: buckets only move together.
            self.counts[target] += count;
            used = target + 1;
        }
        self.counts.truncate(used);
        self.offset = first;
    }

    /// The bucket is known to fit.
    fn add(&mut self, index: i32, count: u64) {
        if self.counts.is_empty() {
            self.offset = index;
        } else if index < self.offset {
            let missing = (self.offset - index) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        }
        let position = (index - self.offset) as usize;
        if position >= self.counts.len() {
            self.counts.resize(position + 1, 0);
        }
        self.counts[position] += count;
    }
}

/// How often neighbours must be joined so that the range fits.
fn shift_to_fit(low: i32, high: i32) -> u32 {
    let mut shift = 0;
    while (high >> shift) - (low >> shift) >= MAX_BUCKETS as i32 {
        shift += 1;
    }
    shift
}

/// The bucket of a normal, positive number. Exact for powers of two, which are upper bounds of buckets.
fn index_of(value: f64, scale: i32) -> i32 {
    const FRACTION_BITS: u32 = 52;
    let bits = value.min(f64::MAX).to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32 - 1023;
    let is_power = bits.trailing_zeros() >= FRACTION_BITS;
    let scale = scale.max(MIN_SCALE);
    if is_power {
        return if scale >= 0 { (exponent << scale) - 1 } else { (exponent - 1) >> -scale };
    }
    if scale <= 0 {
        return exponent >> -scale;
    }
    // The exponent apart from the fraction: the logarithm's rounding error cannot lead into another power of two.
    let fraction = f64::from_bits(bits & ((1 << FRACTION_BITS) - 1) | 1023 << FRACTION_BITS);
    let within = (fraction.log2() * f64::from(1 << scale)) as i32;
    (exponent << scale) + within.min((1 << scale) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    /// Bounds of a bucket.
    fn bounds(index: i32, scale: i32) -> (f64, f64) {
        let power = |index: i32| (f64::from(index) * (-f64::from(scale)).exp2()).exp2();
        (power(index), power(index + 1))
    }

    fn positive() -> impl Strategy<Value = f64> {
        any::<f64>().prop_map(f64::abs).prop_filter("normal", |value| value.is_normal())
    }

    #[test]
    fn powers_of_two_are_the_upper_bounds_of_their_buckets() {
        for scale in MIN_SCALE..=MAX_SCALE {
            for exponent in [-1022, -30, -1, 0, 1, 2, 10, 1023] {
                let value = f64::from(exponent).exp2();
                let index = index_of(value, scale);
                let above = index_of(value * (1.0 + 1e-9), scale);
                if scale >= 0 {
                    assert_eq!(index, (exponent << scale) - 1, "2^{exponent} at {scale}");
                    assert_eq!(above, exponent << scale, "above 2^{exponent} at {scale}");
                } else {
                    assert_eq!(index, (exponent - 1) >> -scale, "2^{exponent} at {scale}");
                }
            }
        }
    }

    #[test]
    fn zero_has_a_bucket_of_its_own() {
        let mut histogram = Exponential::default();
        for value in [0.0, -1.0, f64::NAN, 1e-310] {
            histogram.record(value);
        }
        assert_eq!((histogram.zero_count(), histogram.buckets().1.len()), (4, 0));
    }

    #[test]
    fn the_whole_range_of_numbers_fits() {
        let mut histogram = Exponential::default();
        for value in [f64::MIN_POSITIVE, 1.0, f64::MAX, f64::INFINITY] {
            histogram.record(value);
        }
        assert!(histogram.scale() < 0 && histogram.scale() >= MIN_SCALE, "{}", histogram.scale());
        assert_eq!(histogram.buckets().1.iter().sum::<u64>(), 4);
    }

    proptest! {
        #[test]
        fn a_value_is_inside_its_bucket(value in positive(), scale in MIN_SCALE..=MAX_SCALE) {
            let (low, high) = bounds(index_of(value, scale), scale);
            let slack = 1e-9 * value;
            prop_assert!(value > low - slack && value <= high + slack, "{low} {value} {high}");
        }

        #[test]
        fn every_value_is_counted_once_in_few_buckets(values: Vec<f64>) {
            let mut histogram = Exponential::default();
            for &value in &values {
                histogram.record(value);
                prop_assert!(histogram.buckets().1.len() <= MAX_BUCKETS);
            }
            let counted = histogram.zero_count() + histogram.buckets().1.iter().sum::<u64>();
            prop_assert_eq!(counted, values.len() as u64);
        }

        #[test]
        fn the_result_does_not_depend_on_the_order(mut values in proptest::collection::vec(positive(), 0..200)) {
            let record = |values: &[f64]| {
                let mut histogram = Exponential::default();
                values.iter().for_each(|&value| histogram.record(value));
                histogram
            };
            let forwards = record(&values);
            values.reverse();
            prop_assert_eq!(forwards, record(&values));
        }

        #[test]
        fn the_scale_is_the_finest_that_fits(values in proptest::collection::vec(positive(), 1..100)) {
            let mut histogram = Exponential::default();
            values.iter().for_each(|&value| histogram.record(value));
            let scale = histogram.scale();
            if scale < MAX_SCALE {
                let indices: Vec<i32> = values.iter().map(|&value| index_of(value, scale + 1)).collect();
                let (low, high) = (indices.iter().min().unwrap(), indices.iter().max().unwrap());
                prop_assert!(high - low >= MAX_BUCKETS as i32);
            }
        }

        #[test]
        fn what_came_since_is_what_was_recorded_since(
            before in proptest::collection::vec(1e-6..1e3, 0..50),
            after in proptest::collection::vec(1e-9..1e6, 0..50),
        ) {
            let mut histogram = Exponential::default();
            before.iter().for_each(|&value: &f64| histogram.record(value));
            let earlier = histogram.clone();
            after.iter().for_each(|&value: &f64| histogram.record(value));
            let since = histogram.since(&earlier);
            prop_assert_eq!(since.buckets().1.iter().sum::<u64>(), after.len() as u64);
            let (offset, counts) = since.buckets();
            for value in after {
                let at = index_of(value, since.scale()) - offset;
                prop_assert!(counts[at as usize] > 0);
            }
        }
    }
}

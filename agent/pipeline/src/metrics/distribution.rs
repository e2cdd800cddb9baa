//! One histogram: count, sum and extremes, and the buckets that its readers asked for.

use crate::metrics::exponential::Exponential;

/// The values of one series of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Smallest; 0 while there is none.
    pub min: f64,
    /// Largest; 0 while there is none.
    pub max: f64,
    /// Counts of the explicit buckets: bucket i holds values in (bound i-1, bound i], the last one what is above all
    /// bounds. Empty if nobody reads them.
    pub explicit: Box<[u64]>,
    /// Exponential buckets, if somebody reads them.
    pub exponential: Option<Box<Exponential>>,
}

impl Distribution {
    /// Empty, with explicit buckets for so many bounds, and exponential ones or not.
    pub(crate) fn new(bounds: Option<usize>, exponential: bool) -> Self {
        Self {
            explicit: bounds.map_or_else(Box::default, |bounds| vec![0; bounds + 1].into()),
            exponential: exponential.then(Box::default),
            ..Self::default()
        }
    }

    /// Counts one value.
    #[inline]
    pub(crate) fn record(&mut self, value: f64, bounds: &[f64]) {
        if self.count == 0 {
            (self.min, self.max) = (value, value);
        } else {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        self.count += 1;
        self.sum += value;
        if let Some(bucket) = self.explicit.get_mut(bucket_of(value, bounds)) {
            *bucket += 1;
        }
        if let Some(exponential) = &mut self.exponential {
            exponential.record(value);
        }
    }

    /// What was recorded since `earlier`, which is this distribution at an earlier time. Extremes are not known.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut explicit = self.explicit.clone();
        for (count, before) in explicit.iter_mut().zip(&earlier.explicit) {
            *count = count.saturating_sub(*before);
        }
        let exponential = match (&self.exponential, &earlier.exponential) {
            (Some(now), Some(before)) => Some(Box::new(now.since(before))),
            (now, _) => now.clone(),
        };
        Self {
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum - earlier.sum,
            min: 0.0,
            max: 0.0,
            explicit,
            exponential,
        }
    }
}

/// The explicit bucket of a value: the first whose bound is not below it.
#[inline]
pub(crate) fn bucket_of(value: f64, bounds: &[f64]) -> usize {
    bounds.partition_point(|&bound| bound < value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn bounds_belong_to_the_bucket_below() {
        let bounds = [0.0, 1.0, 2.0];
        for (value, bucket) in [(-1.0, 0), (0.0, 0), (0.5, 1), (1.0, 1), (1.5, 2), (2.0, 2), (2.1, 3)] {
            assert_eq!(bucket_of(value, &bounds), bucket, "{value}");
        }
    }

    proptest! {
        #[test]
        fn counts_and_extremes_are_those_of_the_values(values in proptest::collection::vec(0.0..100.0, 1..50)) {
            let bounds = [1.0, 10.0, 50.0];
            let mut distribution = Distribution::new(Some(bounds.len()), true);
            values.iter().for_each(|&value| distribution.record(value, &bounds));
            prop_assert_eq!(distribution.count, values.len() as u64);
            prop_assert_eq!(distribution.explicit.iter().sum::<u64>(), distribution.count);
            for (index, &bound) in bounds.iter().enumerate() {
                let below: u64 = distribution.explicit[..=index].iter().sum();
                prop_assert_eq!(below, values.iter().filter(|&&value| value <= bound).count() as u64);
            }
            prop_assert_eq!(distribution.min, values.iter().copied().fold(f64::MAX, f64::min));
            prop_assert_eq!(distribution.max, values.iter().copied().fold(0.0, f64::max));
        }
    }
}

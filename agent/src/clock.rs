//! Wall-clock time of kernel timestamps: unix time = CLOCK_MONOTONIC + offset.
//!
//! The offset is measured at start and followed once a second, but by at most 500 µs each time, so that the times of
//! spans never jump when NTP corrects the host's clock, and two ends of one span always differ by exactly what the
//! monotonic clock says. Only a difference of more than a second is taken over at once: then the host's clock was
//! set, or the host slept (CLOCK_MONOTONIC stands still in suspend), and all other clocks on it jumped as well.

use std::time::{SystemTime, UNIX_EPOCH};

use agent_pipeline::metrics::Now;

use crate::kernel::ktime_ns;

/// Times the clocks are read; the reading with the least time between its brackets counts.
const READINGS: usize = 16;
/// Most that the offset moves in one step.
const SLEW_NS: i64 = 500_000;
/// A difference beyond this is taken over at once.
const STEP_NS: i64 = 1_000_000_000;

/// Converts kernel timestamps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset_ns: i64,
}

impl Clock {
    /// Measures the offset.
    pub fn start() -> Self {
        Self { offset_ns: measure() }
    }

    /// Wall-clock time of a kernel timestamp.
    pub fn unix_ns(&self, ktime_ns: u64) -> u64 {
        ktime_ns.saturating_add_signed(self.offset_ns)
    }

    /// This moment.
    pub fn now(&self) -> Now {
        let ktime_ns = ktime_ns();
        Now { ktime_ns, unix_ns: self.unix_ns(ktime_ns) }
    }

    /// Follows the host's clock; to be called once a second.
    pub fn follow(&mut self) {
        self.follow_to(measure());
    }

    fn follow_to(&mut self, target_ns: i64) {
        let difference = target_ns.saturating_sub(self.offset_ns);
        if difference.saturating_abs() > STEP_NS {
            log::info!("the host's clock moved by {} ms: times of spans follow", difference / 1_000_000);
            self.offset_ns = target_ns;
        } else {
            self.offset_ns += difference.clamp(-SLEW_NS, SLEW_NS);
        }
    }
}

fn measure() -> i64 {
    let mut best = (u64::MAX, 0);
    for _ in 0..READINGS {
        let before = ktime_ns();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let after = ktime_ns();
        let gap = after.saturating_sub(before);
        if gap < best.0 {
            let middle = before + gap / 2;
            best = (gap, i64::try_from(unix).unwrap_or(i64::MAX).saturating_sub_unsigned(middle));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_now() {
        let clock = Clock::start();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(clock.unix_ns(ktime_ns()).abs_diff(unix) < 50_000_000);
    }

    #[test]
    fn small_differences_are_slewed_and_large_ones_taken_over() {
        let check = |difference: i64, moved: i64| {
            let mut clock = Clock { offset_ns: 1_000 };
            clock.follow_to(1_000 + difference);
            assert_eq!(clock.offset_ns, 1_000 + moved, "{difference}");
        };
        check(100, 100);
        check(-400_000, -400_000);
        check(900_000_000, 500_000);
        check(-900_000_000, -500_000);
        check(3_600_000_000_000, 3_600_000_000_000);
    }
}

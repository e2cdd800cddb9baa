//! Requests that are slow or fail on purpose, so that there is something to see.
//!
//! Variables: `FAULT_SLOW_SHARE` and `FAULT_ERROR_SHARE` (0.1 each, of 1), `FAULT_SLOW_SECONDS` (10), `FAULT_SEED` (drawn
//! at the start; the same seed makes the same sequence).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::variable;

/// Longest slowness that can be asked for.
pub(crate) const MAX_BURN: Duration = Duration::from_secs(60);

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Burn the CPU for so long.
    Slow(Duration),
    /// Fail.
    Error,
}

/// Draws.
pub(crate) struct Faults {
    slow_share: f64,
    error_share: f64,
    slow_for: Duration,
    random: Mutex<SmallRng>,
}

impl Faults {
    /// From the variables.
    pub(crate) fn from_env() -> Result<Self> {
        let seed = match variable("FAULT_SEED", "").as_str() {
            "" => rand::random(),
            text => text.parse().with_context(|| format!("FAULT_SEED={text}"))?,
        };
        Self::new(
            share("FAULT_SLOW_SHARE")?,
            share("FAULT_ERROR_SHARE")?,
            seconds("FAULT_SLOW_SECONDS", "10")?,
            seed,
        )
    }

    fn new(slow_share: f64, error_share: f64, slow_for: Duration, seed: u64) -> Result<Self> {
        ensure!(
            slow_share + error_share <= 1.0,
            "FAULT_SLOW_SHARE and FAULT_ERROR_SHARE are more than 1 together"
        );
        ensure!(slow_for <= MAX_BURN, "FAULT_SLOW_SECONDS: at most {}", MAX_BURN.as_secs());
        Ok(Self { slow_share, error_share, slow_for, random: Mutex::new(SmallRng::seed_from_u64(seed)) })
    }

    /// What happens to the next request.
    pub(crate) fn draw(&self) -> Fault {
        let drawn: f64 = self.random.lock().unwrap_or_else(PoisonError::into_inner).random();
        if drawn < self.error_share {
            Fault::Error
        } else if drawn < self.error_share + self.slow_share {
            Fault::Slow(self.slow_for)
        } else {
            Fault::None
        }
    }
}

fn share(name: &str) -> Result<f64> {
    let text = variable(name, "0.1");
    let share: f64 = text.parse().with_context(|| format!("{name}={text}"))?;
    ensure!((0.0..=1.0).contains(&share), "{name}={text}: give a share from 0 to 1");
    Ok(share)
}

fn seconds(name: &str, default: &str) -> Result<Duration> {
    let text = variable(name, default);
    let seconds: f64 = text.parse().with_context(|| format!("{name}={text}"))?;
    Duration::try_from_secs_f64(seconds).with_context(|| format!("{name}={text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_kept_and_the_seed_decides() {
        let draw = |seed| {
            let faults = Faults::new(0.1, 0.1, Duration::from_secs(10), seed).expect("valid");
            (0..10_000).map(|_| faults.draw()).collect::<Vec<_>>()
        };
        let first = draw(7);
        for fault in [Fault::Error, Fault::Slow(Duration::from_secs(10))] {
            let count = first.iter().filter(|drawn| **drawn == fault).count();
            assert!((900..1100).contains(&count), "{fault:?}: {count}");
        }
        assert_eq!(first, draw(7));
        assert_ne!(first, draw(8));
    }

    #[test]
    fn no_share_means_never() {
        let faults = Faults::new(0.0, 0.0, Duration::ZERO, 1).expect("valid");
        assert!((0..1000).all(|_| faults.draw() == Fault::None));
        assert!(Faults::new(0.6, 0.5, Duration::ZERO, 1).is_err());
    }
}

//! Waiting for conditions.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::times;

/// Pauses between two tries: a tenth of the time that has been waited, short enough to be no part of a test's time, and within these
/// bounds, long enough to leave the two processors to what is tested.
const PAUSES: (Duration, Duration) = (Duration::from_millis(150), seconds(1));

/// So many seconds.
#[must_use]
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// One second: the grain of times that the API server writes.
#[must_use]
pub const fn second() -> Duration {
    seconds(1)
}

/// How many times as long as usual to wait: `E2E_PATIENCE`, which slow machines set and the scripts of the cluster heed too.
fn patience() -> u32 {
    std::env::var("E2E_PATIENCE").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Asks again and again until `probe` succeeds, and gives back what it found.
///
/// The probe is tried at least once, and once more after the time is up. The error names what was awaited and why the last
/// try was not it.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let limit = limit * patience();
    let begin = Instant::now();
    let deadline = begin + limit;
    loop {
        let last = Instant::now() >= deadline;
        match probe() {
            Ok(found) => {
                times::note(&format!("until {what}"), begin.elapsed());
                return Ok(found);
            }
            Err(error) if last => return Err(anyhow!("not within {limit:?}: {what}: {error:#}")),
            Err(_) => std::thread::sleep((begin.elapsed() / 10).clamp(PAUSES.0, PAUSES.1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[test]
    fn a_probe_that_fails_first_is_asked_again() {
        let mut tries = 0;
        let found = until("the second try", seconds(5), || {
            tries += 1;
            ensure!(tries > 1, "first");
            Ok(tries)
        });
        assert_eq!(found.unwrap(), 2);
    }

    #[test]
    fn the_error_says_what_was_awaited_and_what_was_there_instead() {
        let error = until("rain", Duration::ZERO, || -> Result<()> { Err(anyhow!("sun")) }).unwrap_err();
        assert_eq!(error.to_string(), "not within 0ns: rain: sun");
    }
}

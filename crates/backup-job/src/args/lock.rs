//! Flags of how to get on with others.

use std::time::Duration;

use clap::Args;
use jiff::SignedDuration;
use kubedr_api::task::env as name;

/// How to get on with others who work in the repository.
#[derive(Args, Debug)]
pub struct LockArgs {
    /// How long to wait while others have locked the repository. A lock that its holder left behind goes after half an hour.
    #[arg(long, env = name::LOCK_WAIT, value_name = "DURATION", default_value = "35m", value_parser = duration)]
    pub lock_wait: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    parsed.ok_or_else(|| "expected hours, minutes and seconds, such as 35m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_to_wait_for_a_lock_is_read_as_people_write_it() {
        for (text, seconds) in [("90s", 90), ("35m", 2100), ("1h30m", 5400), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "35", "-1m", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

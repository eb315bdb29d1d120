//! The log, on stderr: JSON in the cluster, text on a terminal.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::{Failure, args::LogFormat};

/// What the engine says at the level `info` is about its own steps, and in words that are not ours; and of time zones, which the image
/// has none of, it says so many times over.
const QUIET: &str = "rustic_core=warn,jiff=error";

/// Sends what is traced to stderr; may be called once.
pub fn start(format: LogFormat, directives: &str) -> Result<(), Failure> {
    let log = tracing_subscriber::fmt().with_env_filter(filter(directives)?).with_writer(stderr);
    match format {
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
        }
        LogFormat::Text => log.with_ansi(stderr().is_terminal()).init(),
    }
    Ok(())
}

fn filter(directives: &str) -> Result<EnvFilter, Failure> {
    let all = if directives == "info" { format!("{directives},{QUIET}") } else { directives.to_owned() };
    EnvFilter::try_new(all).map_err(|error| {
        Failure::Configuration(format!(
            "`--log-level {directives}`: {error}; expected a level such as `info`"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_quiet_unless_asked_to_speak() {
        assert_eq!(filter("info").unwrap().to_string(), "rustic_core=warn,jiff=error,info");
        assert_eq!(filter("debug").unwrap().to_string(), "debug");
    }

    #[test]
    fn a_level_that_is_none_is_refused_by_its_flag() {
        assert!(filter("a=b=c").unwrap_err().to_string().starts_with("`--log-level a=b=c`"));
    }
}

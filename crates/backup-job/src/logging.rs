//! The log, on stderr: JSON in the cluster, text on a terminal.

use tracing_subscriber::EnvFilter;

use crate::{Failure, args::LogFormat};

/// Sends what is traced to stderr; may be called once.
pub fn start(format: LogFormat, directives: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Failure::Configuration(format!(
            "`--log-level {directives}`: {error}; expected a level such as `info`"
        ))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).init()
        }
        LogFormat::Text => log.init(),
    }
    Ok(())
}

//! Every call of the API server goes through here: it has a timeout, and its error says what was attempted.

use std::time::Duration;

/// Longest time that one call may take. Watches are not calls: they have an idle timeout of their own.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A call of the API server that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server answered with an error, or could not be reached.
    #[error("cannot {action}: {}", explain(.source))]
    Failed {
        /// What was attempted, such as ``apply CronJob `daily` ``.
        action: String,
        /// Cause.
        source: Box<kube::Error>,
    },
    /// No answer.
    #[error("cannot {action}: the API server did not answer within {} s", TIMEOUT.as_secs())]
    Timeout {
        /// What was attempted.
        action: String,
    },
}

/// Makes the call; `action` says what it is for, in the words that follow "cannot".
pub async fn call<T>(
    action: impl FnOnce() -> String,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(ApiError::Failed { action: action(), source: Box::new(source) }),
        Err(_) => Err(ApiError::Timeout { action: action() }),
    }
}

impl ApiError {
    /// HTTP status of the API server's answer.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Failed { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Timeout { .. } => None,
        }
    }

    /// The object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The object exists already, or has changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The API server understood and said no: the same request will get the same answer.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.code()
            .is_some_and(|code| matches!(code, 400..=499) && !matches!(code, 401 | 404 | 408 | 409 | 429))
    }
}

/// The API server's own words if there are any: kube's text repeats them in the form of a debug print.
#[must_use]
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("HTTP {} {}", status.code, status.reason),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                let next = error.to_string();
                if !text.contains(&next) {
                    text = format!("{text}: {next}");
                }
                cause = error.source();
            }
            text
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An answer of the API server with this code and message.
    pub fn refused(code: u16, message: &str) -> ApiError {
        let status = kube::core::Status { code, message: message.into(), ..kube::core::Status::default() };
        ApiError::Failed { action: "apply".into(), source: Box::new(kube::Error::Api(Box::new(status))) }
    }

    #[test]
    fn an_error_says_what_was_attempted_and_what_the_api_server_said() {
        assert_eq!(refused(422, "schedule: bad").to_string(), "cannot apply: schedule: bad");
    }

    #[test]
    fn only_answers_that_will_not_change_are_refusals() {
        for (code, refusal) in
            [(400, true), (403, true), (422, true), (404, false), (409, false), (429, false), (503, false)]
        {
            assert_eq!(refused(code, "m").is_refusal(), refusal, "{code}");
        }
    }
}

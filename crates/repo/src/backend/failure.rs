//! What can go wrong between us and the storage, in the words an admin needs.

use std::{error::Error, fmt};

/// A storage operation that failed.
///
/// Its text is one line and complete: what was tried on which object, the whole chain of causes, and what to do. There is
/// no `source` below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageError {
    /// What was tried: `put`, `list`, `create bucket`.
    pub action: &'static str,
    /// The key or path it was tried on.
    pub object: String,
    /// What kind of failure it is.
    pub kind: StorageErrorKind,
    /// The chain of causes as the server or the operating system told it.
    pub detail: String,
}

/// Kinds of storage failure, each with its own advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// The object is not there.
    Missing,
    /// The bucket is not there.
    BucketMissing,
    /// The bucket exists and belongs to somebody else.
    BucketTaken,
    /// The server does not know the access key, or the secret key is wrong.
    WrongKeys,
    /// The keys were good for a time, which is over.
    Expired,
    /// No keys were given, and the place we run in gives none.
    NoCredentials,
    /// The place we run in names a role for us, and does not give us its keys.
    RoleRefused,
    /// The keys are known but not allowed to do this.
    AccessDenied,
    /// The bucket is in another region than the one we signed for.
    WrongRegion,
    /// The clocks differ too much for a signature to be accepted.
    ClockSkew,
    /// Nobody answers.
    Unreachable,
    /// Somebody answers with a certificate we do not trust.
    Untrusted,
    /// Somebody answers, but not as an S3 server does.
    NotS3,
    /// The answer did not come in time, or the server is overloaded or failing.
    Busy,
    /// There is no space left.
    Full,
    /// The object is not what its name or size promises.
    Damaged,
    /// The configuration cannot be used: a certificate file that is none, a bucket name S3 does not allow.
    Unusable,
    /// The commit of a snapshot was refused because its sources did not end well.
    Refused,
    /// A change was refused because our lock on the repository was lost.
    LockLost,
    /// Anything else.
    Other,
}

impl StorageErrorKind {
    /// What the admin can do about it; empty where the detail says it all.
    fn advice(self) -> &'static str {
        match self {
            Self::BucketMissing => {
                "the bucket does not exist: check its name, or initialise the location again"
            }
            Self::BucketTaken => "the bucket belongs to somebody else: choose another bucket name",
            Self::WrongKeys => {
                "the server refused the credentials: check access_key and secret_key, and session_token if there is one"
            }
            Self::Expired => {
                "the credentials have expired: put new ones in their place, session_token included, or none at all where \
                 the pods have a role of their own"
            }
            Self::NoCredentials => {
                "put access_key and secret_key into the location's Secret (`AWS_ACCESS_KEY_ID` and \
                 `AWS_SECRET_ACCESS_KEY` of the job), or give the pods a role: annotate their service account, or let \
                 them reach the instance's metadata"
            }
            Self::RoleRefused => {
                "check that the role exists and trusts the pods' service account, and that whoever gives it can be reached"
            }
            Self::AccessDenied => {
                "the keys may not do this: the bucket belongs to somebody else, or their policy lacks the permission"
            }
            Self::WrongRegion => {
                "set the region the bucket is in: `region` of the location, `job.region` of the chart, `AWS_REGION` of the \
                 job"
            }
            Self::ClockSkew => "set the clocks of this machine and of the server",
            Self::Unreachable => {
                "nothing answers at the endpoint: check URL, network and that the server runs"
            }
            Self::Untrusted => {
                "the server's certificate is not trusted: give its certificate authority (`caCert` of the location, \
                 `--cacert` of the job), or the server a certificate for this name and date"
            }
            Self::NotS3 => {
                "the endpoint does not answer like an S3 server: check scheme (http or https), host and port"
            }
            Self::Busy => "the server did not answer in time or is failing: try again later",
            Self::Full => "there is no space left: free some or choose another location",
            Self::Missing | Self::Damaged | Self::Unusable | Self::Refused | Self::LockLost | Self::Other => {
                ""
            }
        }
    }

    /// Whether it may be a matter of the one file it was met on, and the next one can be tried. Everything else holds for all, and
    /// trying would cost each of them a minute of retries.
    pub(crate) fn concerns_one_file(self) -> bool {
        matches!(self, Self::Missing | Self::AccessDenied | Self::Damaged | Self::Other)
    }

    /// Whether the same request may succeed later with nothing changed by the admin.
    #[must_use]
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Unreachable | Self::Busy | Self::Full | Self::Other)
    }
}

impl StorageError {
    /// An error of this kind; `cause` is flattened into one line with everything below it.
    pub(crate) fn new(
        action: &'static str,
        object: impl Into<String>,
        kind: StorageErrorKind,
        cause: &(dyn Error + 'static),
    ) -> Self {
        Self::with_detail(action, object, kind, chain(cause))
    }

    /// An error of this kind whose cause is only a text.
    pub(crate) fn with_detail(
        action: &'static str,
        object: impl Into<String>,
        kind: StorageErrorKind,
        detail: impl Into<String>,
    ) -> Self {
        Self { action, object: object.into(), kind, detail: detail.into() }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of `{}` failed: {}", self.action, self.object, self.detail)?;
        match self.kind.advice() {
            "" => Ok(()),
            advice => write!(f, " ({advice})"),
        }
    }
}

impl Error for StorageError {}

/// An error and all its sources in one line, without the repetitions that wrappers bring.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = one_line(&error.to_string());
    let mut next = error.source();
    while let Some(cause) = next {
        let text = one_line(&cause.to_string());
        if !text.is_empty() && !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

/// `text` with line breaks and runs of blanks made single blanks.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_one_line_with_action_object_cause_and_advice() {
        let cause = std::io::Error::other("connection\n  refused");
        let error = StorageError::new("put", "data/ab/abcd", StorageErrorKind::Unreachable, &cause);
        let text = error.to_string();
        assert!(text.starts_with("put of `data/ab/abcd` failed: connection refused ("), "{text}");
        assert!(text.contains("check URL"), "{text}");
    }
}

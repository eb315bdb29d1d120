//! Why a command fails: one message, one exit code.

use kubedr_api::names::exit_code;
use kubedr_repo::{Error, StorageErrorKind};
use kubedr_restore::ErrorClass;

/// Exit codes that the job does not have; the others are the job's.
pub mod own_exit_code {
    /// Something that `status` shows is not as it should be, the operator included, or `backup now` could not begin, failed or was not
    /// seen to end.
    pub const UNHEALTHY: i32 = 8;
    /// The cluster could not be asked, or refused.
    pub const CLUSTER: i32 = 9;
    /// Ended by Ctrl-C.
    pub const INTERRUPTED: i32 = 130;
}

/// Why a command failed. The text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Flags, environment or files are wrong.
    #[error("{0}")]
    Configuration(String),
    /// The repository failed, or is damaged.
    #[error("{0}")]
    Repository(String),
    /// A file could not be written.
    #[error("{0}")]
    Target(String),
    /// The cluster's backups are not as they should be.
    #[error("{0}")]
    Unhealthy(String),
    /// The cluster could not be asked, or refused.
    #[error("{0}")]
    Cluster(String),
    /// Ctrl-C came.
    #[error("interrupted before it had finished")]
    Interrupted,
    /// SIGTERM came.
    #[error("ended by SIGTERM before it had finished")]
    Terminated,
    /// What nobody thought of.
    #[error("{0}; this is a defect, please report it")]
    Unexpected(String),
}

impl Failure {
    /// The process's exit code.
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Configuration(_) => exit_code::CONFIGURATION,
            Self::Repository(_) => exit_code::REPOSITORY,
            Self::Target(_) => exit_code::TARGET,
            Self::Unhealthy(_) => own_exit_code::UNHEALTHY,
            Self::Cluster(_) => own_exit_code::CLUSTER,
            Self::Interrupted => own_exit_code::INTERRUPTED,
            Self::Terminated => exit_code::TERMINATED,
            Self::Unexpected(_) => exit_code::UNEXPECTED,
        }
    }
}

impl From<Error> for Failure {
    /// What to do is told in this program's own terms: the engine's advice is for whoever has locations and Secrets.
    fn from(error: Error) -> Self {
        match &error {
            Error::InvalidLocation { .. } => Self::Configuration(error.to_string()),
            Error::NotARepository { url } => Self::Repository(format!(
                "no repository at `{url}`: correct endpoint, bucket and prefix, or make one there with `kubedrctl init`"
            )),
            Error::Unfinished { url } => Self::Repository(format!(
                "the repository at `{url}` was never completely initialised: `kubedrctl init` completes it"
            )),
            Error::WrongPassword { url } => Self::Repository(format!(
                "wrong password for the repository at `{url}`: give the one that it was initialised with, in \
                 `RESTIC_PASSWORD`, a `--password-file` or `--repopwd`"
            )),
            Error::NoSuchSnapshot { url, id } => Self::Repository(format!(
                "no snapshot `{id}` in the repository at `{url}`: `kubedrctl list backups` shows what is there"
            )),
            Error::Target { cause, .. } => Self::Target(format!("{error}{}", kubedr_restore::advice(cause))),
            Error::Storage { url, cause } => match advice(cause.kind) {
                None => Self::Repository(error.to_string()),
                Some(advice) => {
                    let text = format!(
                        "repository `{url}`: {} of `{}` failed: {} ({advice})",
                        cause.action, cause.object, cause.detail
                    );
                    if cause.kind == StorageErrorKind::NoCredentials {
                        Self::Configuration(text)
                    } else {
                        Self::Repository(text)
                    }
                }
            },
            _ => Self::Repository(error.to_string()),
        }
    }
}

/// What to do, where the engine's words do not fit.
fn advice(kind: StorageErrorKind) -> Option<&'static str> {
    match kind {
        StorageErrorKind::BucketMissing => Some(
            "the bucket does not exist: correct `--endpoint` or `--bucket`, or make it with `kubedrctl init`",
        ),
        StorageErrorKind::WrongKeys => Some(
            "the server refused the keys: check access key and secret key, and AWS_SESSION_TOKEN if it is set",
        ),
        StorageErrorKind::Expired => Some("the keys have expired: take new ones, AWS_SESSION_TOKEN included"),
        StorageErrorKind::NoCredentials => Some(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give `--accesskey` and `--secretkey`; there is no role of \
             this place either",
        ),
        StorageErrorKind::RoleRefused => Some(
            "check that the role exists, that it may be taken here, and that whoever gives it can be reached",
        ),
        StorageErrorKind::WrongRegion => {
            Some("give the region that the bucket is in: `--region` or AWS_REGION")
        }
        StorageErrorKind::Untrusted => Some(
            "the server's certificate is not trusted: give its certificate authority with `--cacert FILE`",
        ),
        _ => None,
    }
}

impl From<kubedr_restore::Error> for Failure {
    fn from(error: kubedr_restore::Error) -> Self {
        use kubedr_restore::Error;
        match (error.class(), error) {
            (_, Error::Repository(error)) => error.into(),
            (_, Error::Exists { data }) => Self::Configuration(format!(
                "`{}` exists: nothing is overwritten; move it away, give another `--targetdir`, or allow it with `--overwrite`",
                data.display()
            )),
            (ErrorClass::Configuration, error) => Self::Configuration(error.to_string()),
            (ErrorClass::Target, error) => Self::Target(error.to_string()),
            (ErrorClass::Repository, error) => Self::Repository(error.to_string()),
        }
    }
}

/// An error of the operating system about a file that somebody named.
pub fn unreadable(what: &str, cause: &std::io::Error) -> Failure {
    Failure::Configuration(format!("cannot read `{what}`: {cause}"))
}

//! Why the job fails: one message, one exit code.

use kubedr_api::names::exit_code;
use kubedr_repo::ErrorClass;
use kubedr_restore::advice;

use crate::certificates::CertificatesError;

/// Why the job failed. The text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong or missing configuration.
    #[error("{0}")]
    Configuration(String),
    /// etcd gave no snapshot.
    #[error("{0}")]
    Etcd(String),
    /// The repository failed.
    #[error("{0}")]
    Repository(String),
    /// What is stored in the repository is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// A file of the certificates could not be read.
    #[error("{0}")]
    SourceFiles(String),
    /// A restore could not write.
    #[error("{0}")]
    Target(String),
    /// The work is done, and the API server did not take the report.
    #[error("{0}")]
    Reporting(String),
    /// SIGTERM came.
    #[error("ended by SIGTERM before it had finished")]
    Terminated,
    /// What nobody thought of.
    #[error("{0}; this is a defect, please report it with the job's log")]
    Unexpected(String),
}

impl Failure {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Configuration(_) => exit_code::CONFIGURATION,
            Self::Etcd(_) => exit_code::ETCD,
            Self::Repository(_) | Self::Damaged(_) => exit_code::REPOSITORY,
            Self::SourceFiles(_) => exit_code::SOURCE_FILES,
            Self::Target(_) => exit_code::TARGET,
            Self::Reporting(_) => exit_code::REPORTING,
            Self::Terminated => exit_code::TERMINATED,
            Self::Unexpected(_) => exit_code::UNEXPECTED,
        }
    }
}

impl From<CertificatesError> for Failure {
    fn from(error: CertificatesError) -> Self {
        Self::SourceFiles(error.to_string())
    }
}

impl From<kubedr_etcd::Error> for Failure {
    fn from(error: kubedr_etcd::Error) -> Self {
        if error.is_configuration() {
            Self::Configuration(error.to_string())
        } else {
            Self::Etcd(error.to_string())
        }
    }
}

impl From<kubedr_restore::Error> for Failure {
    fn from(error: kubedr_restore::Error) -> Self {
        use kubedr_restore::{Error, ErrorClass};
        match (error.class(), error) {
            (_, Error::Repository(error)) => error.into(),
            (ErrorClass::Configuration, error) => Self::Configuration(error.to_string()),
            (ErrorClass::Target, error) => Self::Target(error.to_string()),
            (ErrorClass::Repository, error) => Self::Repository(error.to_string()),
        }
    }
}

impl From<kubedr_repo::Error> for Failure {
    fn from(error: kubedr_repo::Error) -> Self {
        match (&error, error.class()) {
            (kubedr_repo::Error::InvalidLocation { .. }, _) => Self::Configuration(error.to_string()),
            (kubedr_repo::Error::Target { cause, .. }, _) => {
                Self::Target(format!("{error}{}", advice(cause)))
            }
            // A source's own failure: the etcd stream's, or that of a certificate that changed while it was read.
            (kubedr_repo::Error::Source { cause, .. }, _)
                if cause
                    .get_ref()
                    .is_some_and(<dyn std::error::Error + Send + Sync>::is::<CertificatesError>) =>
            {
                Self::SourceFiles(cause.to_string())
            }
            (_, ErrorClass::Source) => Self::Etcd(error.to_string()),
            (_, ErrorClass::Integrity) => Self::Damaged(error.to_string()),
            _ => Self::Repository(error.to_string()),
        }
    }
}

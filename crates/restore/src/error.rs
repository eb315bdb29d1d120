//! Why a restore failed.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// Why a restore failed. The text is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is data at the target, which must not be replaced.
    #[error(
        "`{}` exists: nothing is overwritten; move it away, give another target, or allow it (`--overwrite`, \
         `spec.overwrite: true`)",
        data.display()
    )]
    Exists {
        /// The data.
        data: PathBuf,
    },
    /// Another restore writes to the target.
    #[error(
        "another restore writes to `{}`: wait until it has ended, then begin this one anew, or give another target",
        target.display()
    )]
    Busy {
        /// The target.
        target: PathBuf,
    },
    /// The snapshot is there, and is not the one that the tags tell of.
    #[error("snapshot `{snapshot}` has no tag `{tag}`")]
    LacksTag {
        /// How it was asked for.
        snapshot: String,
        /// The tag.
        tag: String,
    },
    /// There is no snapshot with these tags.
    #[error("no snapshot in `{url}` has the tags `{}`", tags.join("`, `"))]
    NoneTagged {
        /// The repository.
        url: String,
        /// The tags.
        tags: Vec<String>,
    },
    /// `latest` could be the backup of one cluster or of another.
    #[error(
        "`latest` is not clear: `{url}` has backups of the clusters {}; say which with `--tag cluster=UID`, or give an id",
        clusters.iter().map(|uid| format!("`{uid}`")).collect::<Vec<_>>().join(", ")
    )]
    SeveralClusters {
        /// The repository.
        url: String,
        /// UIDs of the clusters.
        clusters: BTreeSet<String>,
    },
    /// The snapshot has no `/data`.
    #[error("the snapshot has no `/data`: it is no backup of KubeDR; choose another one")]
    NoBackup,
    /// The target cannot be written.
    #[error("cannot write `{}`: {cause}{}", path.display(), advice(cause))]
    Target {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// What was restored cannot be read.
    #[error("cannot read the restored `{}`: {cause}{}", path.display(), no_backup(cause))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// What was stored is not what etcd sent.
    #[error(
        "`{}` is restored as it was stored, but the hash at its end is not that of its content: choose another snapshot",
        path.display()
    )]
    WrongHash {
        /// The file.
        path: PathBuf,
    },
    /// Somebody stopped it.
    #[error("the restore was stopped before it had finished")]
    Stopped,
    /// The repository failed, or its engine could not write to the target.
    #[error("{}{}", .0, repository_advice(.0))]
    Repository(#[from] kubedr_repo::Error),
}

/// Where the fault of a failed restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// In what was asked for.
    Configuration,
    /// In the target.
    Target,
    /// In the repository or what it holds.
    Repository,
}

impl Error {
    /// Where the fault is.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Exists { .. }
            | Self::Busy { .. }
            | Self::LacksTag { .. }
            | Self::NoneTagged { .. }
            | Self::SeveralClusters { .. }
            | Self::Stopped
            | Self::NoBackup => ErrorClass::Configuration,
            Self::Target { .. } | Self::Repository(kubedr_repo::Error::Target { .. }) => ErrorClass::Target,
            Self::Unreadable { .. } | Self::WrongHash { .. } | Self::Repository(_) => ErrorClass::Repository,
        }
    }

    pub(crate) fn written(path: &Path, cause: io::Error) -> Self {
        Self::Target { path: path.to_owned(), cause }
    }
}

/// What to do about a target that cannot be written.
#[must_use]
pub fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; the target is too small: take a larger one",
        ErrorKind::ReadOnlyFilesystem => "; the target is mounted read-only: take another one",
        ErrorKind::PermissionDenied => {
            "; the target does not let this user write: take another one or correct its permissions"
        }
        _ => "",
    }
}

fn repository_advice(error: &kubedr_repo::Error) -> &'static str {
    match error {
        kubedr_repo::Error::Target { cause, .. } => advice(cause),
        _ => "",
    }
}

fn no_backup(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::NotFound => "; the snapshot is no backup of KubeDR: choose another one",
        _ => "",
    }
}

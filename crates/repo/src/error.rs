//! What the callers of this crate can be told.

use std::{
    error::Error as StdError,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Duration,
};

use rustic_core::RusticError;

use crate::SnapshotId;
use crate::backend::{StorageError, StorageErrorKind, failure_chain, one_line};

/// Why a repository operation failed.
///
/// The text of every variant is one line and complete: action, object, the whole chain of causes, and what to do. None has
/// a `source` below it, so that nothing is printed twice. None holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text given as a location cannot be one.
    #[error("invalid repository location `{location}`: {reason}")]
    InvalidLocation {
        /// The text, without user and password.
        location: String,
        /// Why.
        reason: String,
    },
    /// A request that cannot be carried out as it is, whatever the repository.
    #[error("invalid request: {reason}")]
    InvalidRequest {
        /// Why.
        reason: String,
    },
    /// No key of the repository opens with the password.
    #[error(
        "wrong password for the repository at `{url}`: it was initialised with another one; \
         give that password or choose another location"
    )]
    WrongPassword {
        /// The repository.
        url: String,
    },
    /// There is no repository.
    #[error("no repository at `{url}`: initialise it first")]
    NotARepository {
        /// The place.
        url: String,
    },
    /// An initialisation was interrupted.
    #[error("the repository at `{url}` was never completely initialised: initialise it again")]
    Unfinished {
        /// The place.
        url: String,
    },
    /// Several initialisations ran into each other for too long.
    #[error("another initialisation of `{url}` is under way: try again later")]
    Contended {
        /// The place.
        url: String,
    },
    /// Others are at work in the repository, and did not end in time.
    #[error(
        "the repository at `{url}` is locked, waited {} s for it: {holder}; try again later: a lock goes when its holder \
         ends, or 30 minutes after its last refresh, and nobody has to remove it by hand",
        waited.as_secs()
    )]
    Locked {
        /// The repository.
        url: String,
        /// The lock that stood in the way, in one line.
        holder: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Our own lock is not ours any more. Nothing was changed after that.
    #[error(
        "the lock on the repository at `{url}` was lost: {reason}; nothing was changed after that: try again"
    )]
    LockLost {
        /// The repository.
        url: String,
        /// Why.
        reason: String,
    },
    /// What is stored contradicts itself.
    #[error("the repository at `{url}` is damaged: {detail}")]
    Damaged {
        /// The repository.
        url: String,
        /// What was found, and where.
        detail: String,
    },
    /// The storage failed.
    #[error("repository `{url}`: {cause}")]
    Storage {
        /// The repository.
        url: String,
        /// What went wrong.
        cause: StorageError,
    },
    /// A source of a backup failed, ended early, or brought more than it announced. Nothing was stored that could be
    /// restored.
    #[error("reading the source of `{path}` failed: {}", failure_chain(cause))]
    Source {
        /// The path the stream was to have in the snapshot.
        path: String,
        /// The reader's own error.
        cause: io::Error,
    },
    /// No snapshot answers to this name.
    #[error("no snapshot `{id}` in the repository at `{url}`: list the snapshots to see what is there")]
    NoSuchSnapshot {
        /// The repository.
        url: String,
        /// What was asked for.
        id: String,
    },
    /// The file of a snapshot cannot be read where all of them are needed.
    #[error(
        "snapshot {id} in the repository at `{url}` cannot be read{}: {cause}; bring the file `snapshots/{id}` back from the \
         storage's versions or a copy, or delete it there; the others can be had by their ids meanwhile",
        if *others > 0 { format!(" (and {others} more)") } else { String::new() }
    )]
    UnreadableSnapshot {
        /// The repository.
        url: String,
        /// Its full id.
        id: String,
        /// How many more there are.
        others: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// More than one snapshot begins with these digits.
    #[error("`{id}` is the beginning of {} snapshots, {}: give more digits", all.len(), named(all, id.len()))]
    AmbiguousSnapshot {
        /// What was asked for.
        id: String,
        /// All that begin so.
        all: Vec<SnapshotId>,
    },
    /// A restore could not write.
    #[error("cannot restore to `{}`: {}", path.display(), failure_chain(cause))]
    Target {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// The engine failed in a way that has no better name.
    #[error("{action} failed: {detail}")]
    Engine {
        /// What was being done.
        action: &'static str,
        /// The engine's words.
        detail: String,
    },
}

/// Of several snapshots the first few, with as many digits as tell most of them apart.
fn named(all: &[SnapshotId], given: usize) -> String {
    const NAMED: usize = 4;
    let digits = (given + 4).clamp(8, 64);
    let mut names: Vec<String> =
        all.iter().take(NAMED).map(|id| format!("`{}`", &id.as_str()[..digits])).collect();
    if all.len() > NAMED {
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The same call may succeed later.
    Temporary,
    /// Somebody has to change something: URL, keys, password, space, permission.
    Configuration,
    /// A source of the backup failed; the repository is in order.
    Source,
    /// What is stored is not what was written.
    Integrity,
    /// None of these.
    Unexpected,
}

impl Error {
    /// What a caller can do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::InvalidLocation { .. }
            | Self::InvalidRequest { .. }
            | Self::WrongPassword { .. }
            | Self::NotARepository { .. }
            | Self::Unfinished { .. }
            | Self::NoSuchSnapshot { .. }
            | Self::AmbiguousSnapshot { .. }
            | Self::Target { .. } => ErrorClass::Configuration,
            Self::Contended { .. } | Self::Locked { .. } | Self::LockLost { .. } => ErrorClass::Temporary,
            Self::Damaged { .. } | Self::UnreadableSnapshot { .. } => ErrorClass::Integrity,
            Self::Source { .. } => ErrorClass::Source,
            Self::Engine { .. } => ErrorClass::Unexpected,
            Self::Storage { cause, .. } => match cause.kind {
                StorageErrorKind::Damaged | StorageErrorKind::Missing => ErrorClass::Integrity,
                kind if kind.is_temporary() => ErrorClass::Temporary,
                _ => ErrorClass::Configuration,
            },
        }
    }

    /// Whether the same call may succeed later although nobody changes anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.class() == ErrorClass::Temporary
    }

    pub(crate) fn storage(url: &str, cause: StorageError) -> Self {
        let url = url.to_owned();
        match cause.kind {
            StorageErrorKind::LockLost => Self::LockLost { url, reason: cause.detail },
            _ => Self::Storage { url, cause },
        }
    }

    pub(crate) fn damaged(url: &str, detail: impl Into<String>) -> Self {
        Self::Damaged { url: url.to_owned(), detail: detail.into() }
    }

    /// What went wrong, for a text that names the repository itself.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Damaged { url: _, detail } => detail.clone(),
            Self::Storage { url: _, cause } => cause.to_string(),
            other => other.to_string(),
        }
    }

    /// An error that came out of the engine: a storage error of ours that it only passed on, or its own.
    pub(crate) fn from_engine(url: &str, action: &'static str, error: &RusticError) -> Self {
        if let Some(cause) = find::<StorageError>(error) {
            return Self::storage(url, cause.clone());
        }
        let detail = engine_words(error);
        if is_authentication_failure(error) {
            return Self::damaged(url, format!("{action}: {detail}"));
        }
        Self::Engine { action, detail }
    }
}

/// What the engine and those below it say, without what only their developers need: kinds, nonces, backtraces.
pub(crate) fn engine_words(error: &RusticError) -> String {
    let own = |error: &RusticError| {
        let log = error.display_log();
        let words = log.trim_start_matches("Error: ").split(" (kind: related to ").next().unwrap_or_default();
        one_line(words.trim_end_matches('.'))
    };
    let mut words = vec![own(error)];
    let mut next = error.source();
    while let Some(cause) = next {
        let engines = cause.downcast_ref::<RusticError>();
        let engines = engines.or_else(|| cause.downcast_ref::<Box<RusticError>>().map(|boxed| &**boxed));
        words.push(engines.map_or_else(|| one_line(&cause.to_string()), own));
        next = cause.source();
    }
    words.join(": ")
}

/// Calls the engine. It panics where it finds what it thinks impossible, such as a pack that ends too early; that is an
/// error of this operation and not the end of the process.
pub(crate) fn call_engine<T>(
    url: &str,
    action: &'static str,
    call: impl FnOnce() -> Result<T, Box<RusticError>>,
) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(outcome) => outcome.map_err(|error| Error::from_engine(url, action, &error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Error::Engine { action, detail: format!("the engine panicked: {}", one_line(text)) })
        }
    }
}

/// Calls the engine for what only reads: where it fails and the storage does not, what is stored is not what was written.
pub(crate) fn read_engine<T>(
    url: &str,
    action: &'static str,
    call: impl FnOnce() -> Result<T, Box<RusticError>>,
) -> Result<T, Error> {
    call_engine(url, action, call).map_err(|error| match error {
        Error::Engine { action, detail } => Error::damaged(url, format!("{action}: {detail}")),
        error => error,
    })
}

/// Whether data was not encrypted with the key at hand, or was changed since.
pub(crate) fn is_authentication_failure(error: &RusticError) -> bool {
    const CODE: &str = "C001";
    error.is_code(CODE)
        || find::<RusticError>(error).is_some_and(|inner| inner.is_code(CODE))
        || find::<Box<RusticError>>(error).is_some_and(|inner| inner.is_code(CODE))
}

/// The first error of type `E` below `error`.
pub(crate) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use rustic_core::ErrorKind;

    use super::*;

    fn refused() -> StorageError {
        StorageError::with_detail("put", "data/ab/cd", StorageErrorKind::Unreachable, "connection refused")
    }

    #[test]
    fn a_storage_error_survives_the_way_through_the_engine() {
        let inner = RusticError::with_source(ErrorKind::Backend, "inner", refused());
        let outer = RusticError::with_source(ErrorKind::Internal, "outer", inner);
        let error = Error::from_engine("s3:http://h/b", "backup", &outer);
        assert!(matches!(&error, Error::Storage { cause, .. } if *cause == refused()), "{error:?}");
        assert!(error.is_temporary());
    }

    #[test]
    fn a_failed_authentication_is_damage() {
        let inner = RusticError::new(ErrorKind::Cryptography, "MAC").attach_error_code("C001");
        let outer = RusticError::with_source(ErrorKind::Cryptography, "error processing", inner);
        assert_eq!(Error::from_engine("u", "check", &outer).class(), ErrorClass::Integrity);
    }

    #[test]
    fn the_engines_words_are_told_without_what_only_its_developers_need() {
        let mac = RusticError::with_source(ErrorKind::Cryptography, "MAC check failed.", refused())
            .attach_context("nonce", "[1, 2]")
            .attach_error_code("C001");
        let outer = RusticError::with_source(ErrorKind::Cryptography, "error processing {tpe}:{id}", mac)
            .attach_context("tpe", "Index")
            .attach_context("id", "ab");
        let words = engine_words(&outer);
        assert_eq!(words, format!("error processing Index:ab: MAC check failed: {}", refused()));
    }

    #[test]
    fn a_panic_of_the_engine_is_an_error() {
        let error = call_engine::<()>("u", "check", || panic!("split_to out of bounds")).unwrap_err();
        assert_eq!(error.to_string(), "check failed: the engine panicked: split_to out of bounds");
    }

    #[test]
    fn a_source_error_carries_the_readers_own_words() {
        let cause = io::Error::other("etcd: rpc cancelled");
        let error = Error::Source { path: "/data/etcd-snapshot.db".to_owned(), cause };
        assert_eq!(
            error.to_string(),
            "reading the source of `/data/etcd-snapshot.db` failed: etcd: rpc cancelled"
        );
    }
}

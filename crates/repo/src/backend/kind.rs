//! Kinds of repository files.

/// Kind of a file of the repository. The engine's own list lacks locks, of which it knows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    /// What makes a place a repository; the only one of its kind.
    Config,
    /// Which blob is in which pack.
    Index,
    /// The master key, encrypted with a password.
    Key,
    /// A snapshot: when, of what, and its tree.
    Snapshot,
    /// Blobs of data and of trees.
    Pack,
    /// Who is at work in the repository.
    Lock,
}

impl FileKind {
    /// The directory that holds files of this kind; for the config, its name.
    pub(crate) const fn dirname(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Index => "index",
            Self::Key => "keys",
            Self::Snapshot => "snapshots",
            Self::Pack => "data",
            Self::Lock => "locks",
        }
    }
}

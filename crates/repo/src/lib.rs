//! The repository engine: snapshots in the restic format, on S3, in a directory, or in memory.
//!
//! # What this crate guarantees
//!
//! - **A snapshot is a proven backup.** The snapshot file is the commit point. It is written last: after every stream has
//!   reached exactly its announced size, and after every byte has been read back from the storage and compared with what
//!   was streamed. Whatever fails before leaves data that no snapshot refers to, which a later prune removes.
//! - **Locks are restic's.** Stock restic and we wait for each other; see [`Repository::lock`]. Work on a repository that
//!   [`Repository::hold`] has bound to a lock changes nothing once the lock is lost.
//! - **Space is reclaimed in two phases**, a day apart, and any of them may be killed; see [`PrunePlan`].
//! - **Streams only.** A backup needs no temporary file, and its memory does not grow with the data.
//! - **A damaged snapshot hides no other**: it is listed beside those that can be read, which are restored by their ids.
//! - **Initialisation may be killed, repeated, and run twice at once**; see [`Repository::init`].
//! - **Stock restic reads, checks and restores** what is written here, and the other way round. Chunks have a fixed size
//!   of 16 KiB, a multiple of the pages of an etcd database, so that unchanged pages are stored once.
//! - **Errors are one line and complete**: what was done to which object, the chain of causes, and what to do. No secret is
//!   in them; [`Secret`] cannot be printed.
//!
//! # What it does not know
//!
//! Kubernetes, etcd, the environment (but for [`S3Credentials::Ambient`]), the clock of the caller. It is synchronous; the S3 client's runtime is its own.
//!
//! # How the bytes go
//!
//! ```text
//! Source (Read) → source.rs: count, hash, gate → engine: chunk, deduplicate, compress, encrypt, pack
//!   → backup.rs: hold the snapshot file back → backend/: S3, directory, memory
//!   → readback.rs: read everything back, compare → backup.rs: commit the snapshot file
//! ```

mod backend;
mod backup;
mod check;
mod contents;
mod error;
mod forget;
mod init;
mod location;
mod lock;
mod parallel;
mod progress;
mod prune;
mod readback;
mod repository;
mod restore;
mod seal;
mod secret;
mod snapshot;
mod source;
mod unlock;

pub use backend::{MemoryStore, StorageError, StorageErrorKind};
pub use backup::{Backup, BackupRequest};
pub use check::{CheckDepth, CheckReport};
pub use contents::Contents;
pub use error::{Error, ErrorClass};
pub use init::{InitOptions, InitOutcome};
pub use location::{
    Addressing, Location, Proxy, S3Credentials, S3Location, S3Options, TlsTrust, region_of_host,
};
pub use lock::{LockGuard, LockHolder, LockInfo, LockMode, LockOptions};
pub use progress::{Progress, Watch};
pub use prune::{Amount, PrunePlan, PruneReport};
pub use repository::Repository;
pub use restore::Restored;
pub use secret::Secret;
pub use snapshot::{Listing, Snapshot, SnapshotId};
pub use source::{FileDigest, Source};

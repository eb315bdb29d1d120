//! The etcd snapshot as a source of a backup.
//!
//! [`Snapshot::open`] takes client URLs and the files of etcd's credentials, and gives back a file to be read: its exact size
//! is known before its first byte, it ends with the SHA-256 that etcd puts after the database, as `etcdutl snapshot restore`
//! wants it, and it ends at all only if that hash is right.
//!
//! What this crate guarantees:
//! - only a voting member that knows a leader and is not under the alarm CORRUPT is asked, a follower before the leader; the
//!   next member is tried until a stream has begun; endpoints of different clusters are refused;
//! - nothing hangs: connecting, asking and receiving have time limits, and connections are kept alive;
//! - a stream that breaks, ends early or is damaged makes the reader fail, now and on every later read;
//! - errors are one line with the whole chain of causes and what to do; none holds a key.

mod credentials;
mod endpoints;
mod error;
mod explain;
mod member;
mod reader;
mod select;
mod snapshot;

pub use credentials::{ClientFiles, CredentialFiles, Credentials};
pub use endpoints::{Endpoint, Endpoints};
pub use error::{Error, Failure, Material};
pub use reader::SnapshotReader;
pub use snapshot::Snapshot;

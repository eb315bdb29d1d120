//! From a snapshot to a directory: what the job and `kubedrctl` do alike.
//!
//! [`restore`] leaves `data/etcd-snapshot.db` below the target and, if the backup has certificates, `data/certificates/`.
//!
//! What this crate guarantees:
//! - `data` gets its name only when everything is on disk and the hash that etcd put after the database was found right; a
//!   restore that fails or is killed leaves what was there, and the next one removes what it left in between;
//! - a restore that is stopped ([`Unfinished`]) clears away what it has written, or tells what it leaves;
//! - nothing is overwritten unless [`Existing::Replace`] says so, and of two restores to one target the second is refused;
//! - owners, modes, links and times come back where the target takes them, and [`RestoreDone`] names where it does not.
//!
//! It is synchronous, takes no lock on the repository, and reads no environment.

mod error;
mod place;
mod restore;
mod stop;
mod unpack;

pub use error::{Error, ErrorClass, advice};
pub use restore::{Existing, Request, RestoreDone, choose, refuse_existing, restore};
pub use stop::{Stop, Unfinished};

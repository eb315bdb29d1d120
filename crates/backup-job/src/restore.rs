//! A restore: opens the repository, locks it, and has the files brought back.

use std::{path::PathBuf, sync::Arc};

use kubedr_repo::LockMode;
use kubedr_restore::{Request, Stop, Unfinished, refuse_existing};

use crate::{Failure, Locking, Storage, backup::blocking};

pub use kubedr_restore::{Existing, RestoreDone};

/// What to restore, and to where.
#[derive(Debug)]
pub struct RestoreSettings {
    /// The repository.
    pub storage: Storage,
    /// The repository's own id, if it must be this one.
    pub repository_id: Option<String>,
    /// Snapshot: its id, a beginning of it, or `latest`.
    pub snapshot: String,
    /// Tags that the snapshot must have.
    pub tags: Vec<String>,
    /// Directory that gets `data`.
    pub target: PathBuf,
    /// What becomes of a `data` that is there.
    pub existing: Existing,
    /// How the repository is locked.
    pub locking: Locking,
}

/// Brings the snapshot's files back; see [`kubedr_restore::restore`]. What is asked for in vain is refused before anything is read.
///
/// When this is dropped half-way, by SIGTERM, what it has written is cleared away.
pub async fn restore(settings: RestoreSettings) -> Result<RestoreDone, Failure> {
    let RestoreSettings { storage, repository_id, snapshot, tags, target, existing, locking } = settings;
    let stop = Stop::default();
    let request = Request { snapshot, tags, target, existing, watch: None, stop: stop.clone() };
    let (repository, request) = blocking(move || {
        refuse_existing(existing, &request.target)?;
        let repository = storage.open()?;
        if let Some(id) = repository_id.filter(|id| id != repository.id()) {
            return Err(Failure::Configuration(format!(
                "the repository at `{}` is another one than the backup was stored in ({} instead of {id}): correct the location's \
                 URL, bucket or prefix",
                repository.url(),
                repository.id()
            )));
        }
        Ok((Arc::new(repository), request))
    })
    .await?;
    let locked = locking.take(&repository, LockMode::Shared).await?;
    let held = locked.repository.clone();
    // Dropped before the lock, whose storage may keep it waiting.
    let unfinished = Unfinished::new(stop);
    let done = blocking(move || Ok(kubedr_restore::restore(&held, &request)?)).await;
    locked.release().await;
    unfinished.ended();
    done
}

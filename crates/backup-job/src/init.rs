//! Initialisation of a repository.

use kubedr_repo::InitOutcome;
use serde::Serialize;

use crate::{Failure, Storage, backup::blocking};

/// A repository that is there and opens with the password. Printed as the job's summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitDone {
    /// The repository, without secrets.
    pub repository: String,
    /// The repository's own id.
    pub repository_id: String,
    /// Whether it was created, completed, or there already.
    pub outcome: InitOutcome,
}

/// Whether a repository that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfAbsent {
    /// It is.
    Create,
    /// It is not: nothing may be written.
    Fail,
}

/// Makes sure that the repository is there and that the password opens it; see [`kubedr_repo::Repository::init`].
pub async fn initialise(storage: Storage, if_absent: IfAbsent) -> Result<InitDone, Failure> {
    blocking(move || {
        let (repository, outcome) = match if_absent {
            IfAbsent::Create => storage.init()?,
            IfAbsent::Fail => (storage.attach()?, InitOutcome::Attached),
        };
        Ok(InitDone {
            repository: repository.url().to_owned(),
            repository_id: repository.id().to_owned(),
            outcome,
        })
    })
    .await
}

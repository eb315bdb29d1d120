//! `init`.

use kubedr_repo::InitOutcome;
use serde::Serialize;

use crate::{answer::Answer, failure::Failure, progress::Progress, storage::Storage};

/// A repository that is there and opens with the password.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Initialised {
    /// The repository, without secrets.
    repository: String,
    /// The repository's own id.
    repository_id: String,
    /// Whether it was created, completed, or there already.
    outcome: InitOutcome,
}

/// Makes sure that there is a repository and that the password opens it.
pub fn init(storage: &Storage) -> Result<Answer, Failure> {
    let progress = Progress::begin("initialising the repository");
    let (repository, outcome) = storage.init()?;
    drop(progress);
    let done = Initialised {
        repository: repository.url().to_owned(),
        repository_id: repository.id().to_owned(),
        outcome,
    };
    let text = match outcome {
        InitOutcome::Created => "made a repository at",
        InitOutcome::Completed => "completed the repository at",
        InitOutcome::Attached => "there is a repository already, and the password opens it:",
    };
    Answer::new(format!("{text} `{}`\n", done.repository), &done)
}

//! `check`.

use std::{sync::Arc, time::Duration};

use kubedr_repo::{
    CheckDepth, CheckReport, LockGuard, LockHolder, LockInfo, LockMode, LockOptions, Repository,
};
use serde::Serialize;

use crate::{answer::Answer, failure::Failure, progress::Progress, run::blocking, storage::Storage};

/// Findings that a message names; the answer has all.
const NAMED: usize = 3;

/// How a check gets on with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locking {
    /// It writes nothing.
    Off,
    /// It takes restic's lock and waits so long for others.
    Wait(Duration),
}

/// What a check has found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    /// The repository, without secrets.
    repository: String,
    /// The repository's own id.
    repository_id: String,
    /// Whether no damage was found.
    ok: bool,
    /// Whether every byte was read.
    read_data: bool,
    #[serde(flatten)]
    report: CheckReport,
}

/// Checks the repository. The lock is given back also when this is dropped half-way.
pub async fn check(storage: Storage, depth: CheckDepth, locking: Locking) -> Result<Answer, Failure> {
    let progress = Arc::new(Progress::begin("opening the repository"));
    let repository = Arc::new(blocking(move || storage.open()).await?);
    let (locked, line) = (repository.clone(), progress.clone());
    let guard = blocking(move || lock(&locked, locking, &line)).await?;
    let watch = progress.watch("checking");
    let held = repository.clone();
    let report = blocking(move || Ok(held.check_watched(depth, &watch)?)).await?;
    blocking(move || {
        drop(guard);
        Ok(())
    })
    .await?;
    drop(progress);
    let checked = Checked {
        repository: repository.url().to_owned(),
        repository_id: repository.id().to_owned(),
        ok: report.is_ok(),
        read_data: depth == CheckDepth::ReadData,
        report,
    };
    Ok(Answer::new(checked.render(), &checked)?.with_failure(checked.failure()))
}

fn lock(
    repository: &Arc<Repository>,
    locking: Locking,
    progress: &Progress,
) -> Result<Option<LockGuard>, Failure> {
    let Locking::Wait(wait) = locking else { return Ok(None) };
    let waiting = |lock: &LockInfo| {
        tracing::warn!("waiting for a lock on the repository: {lock}");
        progress.say("waiting for a lock on the repository");
    };
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let holder = LockHolder { hostname: hostname.trim().to_owned(), username: "kubedrctl".to_owned() };
    let options =
        LockOptions { holder, mode: LockMode::Shared, wait, is_gone: &|_| false, waiting: &waiting };
    Ok(Some(repository.lock(&options)?))
}

impl Checked {
    fn failure(&self) -> Option<Failure> {
        let errors = &self.report.errors;
        if errors.is_empty() {
            return None;
        }
        let more =
            if errors.len() > NAMED { format!(" and {} more", errors.len() - NAMED) } else { String::new() };
        let first: Vec<_> = errors.iter().take(NAMED).map(String::as_str).collect();
        Some(Failure::Repository(format!(
            "the repository at `{}` is damaged: {}{more}; the backups that need what is lost cannot be restored: take new ones, \
             and find out which are whole by restoring them",
            self.repository,
            first.join("; ")
        )))
    }

    fn render(&self) -> String {
        let CheckReport { errors, warnings } = &self.report;
        let mut text = String::new();
        for (kind, findings) in [("error", errors), ("warning", warnings)] {
            text.extend(findings.iter().map(|finding| format!("{kind}: {finding}\n")));
        }
        let depth =
            if self.read_data { "every byte was read" } else { "data was not read: `--read-data` does that" };
        let verdict = if self.ok { "no damage found" } else { "DAMAGED" };
        text + &format!("{verdict} in `{}` ({depth})\n", self.repository)
    }
}

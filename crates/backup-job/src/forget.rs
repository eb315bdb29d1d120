//! Deletes snapshots, reclaims space, checks.

use std::sync::Arc;

use kubedr_repo::{CheckDepth, CheckReport, LockMode, PruneReport, Repository, SnapshotId};
use serde::Serialize;

use crate::{Failure, Locking, Storage, backup::blocking};

/// Findings that a message names; the log has all.
const NAMED: usize = 3;

/// What to delete, and from where.
#[derive(Debug)]
pub struct ForgetSettings {
    /// The repository.
    pub storage: Storage,
    /// The repository's own id, if it must be this one.
    pub repository_id: Option<String>,
    /// Snapshots to delete.
    pub snapshots: Vec<SnapshotId>,
    /// Whether space is reclaimed after that.
    pub prune: bool,
    /// How the repository is locked.
    pub locking: Locking,
}

/// What was done. Printed as the job's summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ForgetDone {
    /// The repository, without secrets.
    pub repository: String,
    /// The repository's own id.
    pub repository_id: String,
    /// Snapshots that are not in it any more, those among them that were gone before.
    pub deleted: Vec<SnapshotId>,
    /// What was reclaimed.
    pub pruned: Option<PruneReport>,
    /// What the check after that has found.
    pub check: Option<CheckReport>,
}

/// What a prune would do. Printed as the job's summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrunePlanned {
    /// The repository, without secrets.
    pub repository: String,
    /// The repository's own id.
    pub repository_id: String,
    /// What it would reclaim.
    pub plan: PruneReport,
}

/// A check that found no damage. Printed as the job's summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckDone {
    /// The repository, without secrets.
    pub repository: String,
    /// The repository's own id.
    pub repository_id: String,
    /// Oddities that harm no snapshot.
    pub warnings: Vec<String>,
}

/// Whoever is told of each step as soon as it is done: the next one may take long, or fail.
pub trait Progress: Sync {
    /// These snapshots are gone from the repository with this id.
    fn deleted(
        &self,
        repository_id: &str,
        snapshots: &[SnapshotId],
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Space was reclaimed.
    fn pruned(&self, report: &PruneReport) -> impl Future<Output = Result<(), Failure>> + Send;

    /// The repository was checked; the damage in one line, if there is any.
    fn checked(&self, damage: Option<&str>) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Deletes the snapshots under an exclusive lock and, if asked to, reclaims space; then checks under a shared one.
///
/// A snapshot that is gone already is as good as deleted. If some cannot be deleted, those that could are told of all the
/// same, and nothing is reclaimed. If damage keeps the space from being reclaimed, the check looks all the same.
pub async fn forget(settings: ForgetSettings, progress: &impl Progress) -> Result<ForgetDone, Failure> {
    let ForgetSettings { storage, repository_id, snapshots, prune, locking } = settings;
    let repository = open(storage, repository_id).await?;
    let id = repository.id().to_owned();
    let locked = locking.take(&repository, LockMode::Exclusive).await?;
    let changed: Result<_, Failure> = async {
        let deleted = delete(&locked.repository, snapshots, progress).await?;
        let pruned = if prune { Some(reclaim(&locked.repository, progress).await?) } else { None };
        Ok((deleted, pruned))
    }
    .await;
    locked.release().await;
    let (deleted, pruned) = match changed {
        Err(Failure::Damaged(met)) => return Err(look_closer(met, &repository, &locking, progress).await),
        changed => changed?,
    };
    let check = match pruned {
        Some(_) => Some(check_after(&repository, &locking, progress).await?),
        None => None,
    };
    Ok(ForgetDone { repository: repository.url().to_owned(), repository_id: id, deleted, pruned, check })
}

/// Says what a prune would do, and does nothing.
pub async fn plan_prune(storage: Storage, locking: &Locking) -> Result<PrunePlanned, Failure> {
    let repository = open(storage, None).await?;
    let locked = locking.take(&repository, LockMode::Shared).await?;
    let held = locked.repository.clone();
    let plan = blocking(move || Ok(held.plan_prune()?.report())).await;
    locked.release().await;
    Ok(PrunePlanned {
        repository: repository.url().to_owned(),
        repository_id: repository.id().to_owned(),
        plan: plan?,
    })
}

/// Checks the repository under a shared lock. Damage is a failure.
pub async fn check(storage: Storage, depth: CheckDepth, locking: &Locking) -> Result<CheckDone, Failure> {
    let repository = open(storage, None).await?;
    let report = look(&repository, depth, locking).await?;
    match damage(&repository, &report) {
        Some(damage) => Err(Failure::Damaged(damage)),
        None => Ok(CheckDone {
            repository: repository.url().to_owned(),
            repository_id: repository.id().to_owned(),
            warnings: report.warnings,
        }),
    }
}

/// The repository, if it is the one that is meant.
async fn open(storage: Storage, expected: Option<String>) -> Result<Arc<Repository>, Failure> {
    let repository = blocking(move || storage.open()).await?;
    match expected.filter(|id| id != repository.id()) {
        None => Ok(Arc::new(repository)),
        Some(expected) => Err(Failure::Repository(format!(
            "the repository at `{}` is another one ({} instead of {expected}): nothing is deleted from it; correct the location's \
             URL, bucket or prefix",
            repository.url(),
            repository.id()
        ))),
    }
}

async fn delete(
    repository: &Arc<Repository>,
    snapshots: Vec<SnapshotId>,
    progress: &impl Progress,
) -> Result<Vec<SnapshotId>, Failure> {
    if snapshots.is_empty() {
        return Ok(snapshots);
    }
    let (all, held) = (snapshots.len(), repository.clone());
    let outcomes = blocking(move || {
        let outcomes = held.remove_all(&snapshots);
        Ok(snapshots.into_iter().zip(outcomes).collect::<Vec<_>>())
    })
    .await?;
    let (mut deleted, mut first_error) = (Vec::new(), None);
    for (snapshot, outcome) in outcomes {
        match outcome {
            Ok(()) => {
                tracing::info!(%snapshot, "deleted");
                deleted.push(snapshot);
            }
            Err(error) => {
                tracing::warn!(%snapshot, %error, "not deleted");
                first_error.get_or_insert(error);
            }
        }
    }
    if !deleted.is_empty() {
        progress.deleted(repository.id(), &deleted).await?;
    }
    match first_error {
        None => Ok(deleted),
        Some(error) => Err(Failure::Repository(format!(
            "{} of {all} snapshots could not be deleted: {error}",
            all - deleted.len()
        ))),
    }
}

async fn reclaim(repository: &Arc<Repository>, progress: &impl Progress) -> Result<PruneReport, Failure> {
    let held = repository.clone();
    let report = blocking(move || {
        let plan = held.plan_prune()?;
        tracing::info!(plan = ?plan.report(), "reclaiming space");
        Ok(plan.execute()?)
    })
    .await?;
    progress.pruned(&report).await?;
    Ok(report)
}

/// What the job fails with when a prune has met damage: what the check has found, which knows more than the first thing that stood
/// in the way. Where it sees nothing, since it does not read all that a prune does, or cannot look, what was met is told as its
/// result, lest the last check, which found nothing, stay the last word.
async fn look_closer(
    met: String,
    repository: &Arc<Repository>,
    locking: &Locking,
    progress: &impl Progress,
) -> Failure {
    let found = match look(repository, CheckDepth::Structure, locking).await {
        Ok(report) => damage(repository, &report),
        Err(error) => {
            tracing::warn!(%error, "the damaged repository could not be checked");
            None
        }
    };
    let damage = found.unwrap_or(met);
    match progress.checked(Some(&damage)).await {
        Ok(()) => Failure::Damaged(damage),
        Err(error) => error,
    }
}

async fn check_after(
    repository: &Arc<Repository>,
    locking: &Locking,
    progress: &impl Progress,
) -> Result<CheckReport, Failure> {
    let report = look(repository, CheckDepth::Structure, locking).await?;
    let damage = damage(repository, &report);
    progress.checked(damage.as_deref()).await?;
    damage.map_or(Ok(report), |damage| Err(Failure::Damaged(damage)))
}

async fn look(
    repository: &Arc<Repository>,
    depth: CheckDepth,
    locking: &Locking,
) -> Result<CheckReport, Failure> {
    let locked = locking.take(repository, LockMode::Shared).await?;
    let held = locked.repository.clone();
    let report = blocking(move || Ok(held.check(depth)?)).await;
    locked.release().await;
    let report = report?;
    for finding in &report.errors {
        tracing::error!(finding, "the repository is damaged");
    }
    for finding in &report.warnings {
        tracing::warn!(finding, "found by the check; no snapshot needs it");
    }
    Ok(report)
}

/// What is wrong and what to do, in one line.
fn damage(repository: &Repository, report: &CheckReport) -> Option<String> {
    if report.is_ok() {
        return None;
    }
    let named = report.errors.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    let more = match report.errors.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Some(format!(
        "the repository at `{}` is damaged: {named}{more}. `restic check --read-data` shows what is affected: bring the files back \
         from the storage's versions or a copy, or begin a new repository under another prefix",
        repository.url()
    ))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
        sync::{LazyLock, Mutex},
        time::Duration,
    };

    use kubedr_repo::{BackupRequest, InitOptions, Location, LockHolder, Source};
    use kubedr_testing::EmptyRepository;
    use tempfile::TempDir;

    use super::*;
    use crate::NoNeighbours;

    const PASSWORD: &str = "correct horse";

    static EMPTY: LazyLock<EmptyRepository> = LazyLock::new(|| {
        EmptyRepository::made_by(PASSWORD, |dir| {
            let location = Location::Local(dir.to_owned());
            drop(Repository::init(&location, &PASSWORD.into(), &InitOptions::default()).unwrap());
        })
    });

    /// Remembers what it was told.
    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Told {
        fn add(&self, word: String) {
            self.0.lock().unwrap().push(word);
        }
    }

    impl Progress for Told {
        async fn deleted(&self, _: &str, snapshots: &[SnapshotId]) -> Result<(), Failure> {
            self.add(format!("deleted {}", snapshots.len()));
            Ok(())
        }

        async fn pruned(&self, _: &PruneReport) -> Result<(), Failure> {
            self.add("pruned".into());
            Ok(())
        }

        async fn checked(&self, damage: Option<&str>) -> Result<(), Failure> {
            self.add(format!("checked {}", damage.is_none()));
            Ok(())
        }
    }

    fn locking() -> Locking {
        Locking::Restic {
            holder: LockHolder { hostname: "h".into(), username: "u".into() },
            wait: Duration::ZERO,
            neighbours: Arc::new(NoNeighbours),
        }
    }

    /// A repository with this many backups.
    fn repository(backups: u8) -> (TempDir, Repository, Vec<SnapshotId>) {
        let dir = tempfile::tempdir().unwrap();
        EMPTY.copy_to(dir.path());
        let repository = Repository::open(&Location::Local(dir.path().to_owned()), &PASSWORD.into()).unwrap();
        let ids = (0..backups).map(|number| backup(&repository, vec![number; 50_000])).collect();
        (dir, repository, ids)
    }

    fn backup(repository: &Repository, content: Vec<u8>) -> SnapshotId {
        let source = Source {
            path: "/data/etcd-snapshot.db".into(),
            size: content.len() as u64,
            mode: 0o600,
            reader: Box::new(std::io::Cursor::new(content)),
        };
        let request = BackupRequest {
            time: jiff::Timestamp::now(),
            host: "h".into(),
            tags: Vec::new(),
            path: "/data".into(),
            sources: vec![source],
        };
        repository.backup(request).unwrap().snapshot_id
    }

    fn settings(dir: &TempDir, snapshots: Vec<SnapshotId>, prune: bool) -> ForgetSettings {
        let storage = Storage::of(Location::Local(dir.path().to_owned()), PASSWORD.into());
        ForgetSettings { storage, repository_id: None, snapshots, prune, locking: locking() }
    }

    #[tokio::test]
    async fn snapshots_go_space_is_reclaimed_and_the_rest_is_checked_in_this_order() {
        let (dir, repository, ids) = repository(3);
        let told = Told::default();
        let done = forget(settings(&dir, ids[..2].to_vec(), true), &told).await.unwrap();
        assert_eq!(done.deleted, ids[..2]);
        assert_eq!(*told.0.lock().unwrap(), ["deleted 2", "pruned", "checked true"]);
        assert!(done.pruned.unwrap().marked.packs > 0);
        assert_eq!(repository.snapshots().unwrap().len(), 1);
        assert_eq!(repository.locks().unwrap(), []);
    }

    #[tokio::test]
    async fn a_snapshot_that_is_gone_already_is_as_good_as_deleted() {
        let (dir, _, ids) = repository(1);
        let told = Told::default();
        for _ in 0..2 {
            let done = forget(settings(&dir, ids.clone(), false), &told).await.unwrap();
            assert_eq!((done.deleted, done.pruned), (ids.clone(), None));
        }
        assert_eq!(*told.0.lock().unwrap(), ["deleted 1", "deleted 1"]);
    }

    #[tokio::test]
    async fn nothing_is_deleted_from_another_repository() {
        let (dir, repository, ids) = repository(1);
        let mut settings = settings(&dir, ids, true);
        settings.repository_id = Some("ab".repeat(32));
        let failure = forget(settings, &Told::default()).await.unwrap_err();
        assert_eq!(failure.exit_code(), 4);
        assert!(failure.to_string().contains("nothing is deleted"), "{failure}");
        assert_eq!(repository.snapshots().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_deleted_while_others_are_at_work() {
        let (dir, repository, ids) = repository(1);
        let nobody = |_: &kubedr_repo::LockInfo| false;
        let guard = repository
            .lock(&kubedr_repo::LockOptions {
                holder: LockHolder { hostname: "other".into(), username: "somebody".into() },
                mode: LockMode::Shared,
                wait: Duration::ZERO,
                is_gone: &nobody,
                waiting: &|_| {},
            })
            .unwrap();
        let failure = forget(settings(&dir, ids.clone(), false), &Told::default()).await.unwrap_err();
        assert!(failure.to_string().contains("`somebody` on `other`"), "{failure}");
        assert_eq!(repository.snapshots().unwrap().len(), 1);
        guard.release();
        assert!(forget(settings(&dir, ids, false), &Told::default()).await.is_ok());
    }

    #[tokio::test]
    async fn what_could_be_deleted_is_told_although_the_rest_could_not() {
        let (dir, _, _) = repository(0);
        let ids: Vec<SnapshotId> = (0..5).map(|number| format!("{number:064x}").parse().unwrap()).collect();
        fs::create_dir(dir.path().join("snapshots")).unwrap();
        for id in &ids[..4] {
            fs::write(dir.path().join("snapshots").join(id.as_str()), "snapshot").unwrap();
        }
        // What is no file cannot be removed as one.
        fs::create_dir(dir.path().join("snapshots").join(ids[4].as_str())).unwrap();
        let told = Told::default();
        let failure = forget(settings(&dir, ids, true), &told).await.unwrap_err();
        assert_eq!(failure.exit_code(), 4);
        assert!(failure.to_string().starts_with("1 of 5 snapshots could not be deleted"), "{failure}");
        assert_eq!(*told.0.lock().unwrap(), ["deleted 4"], "nothing is reclaimed after that");
        assert_eq!(fs::read_dir(dir.path().join("locks")).unwrap().count(), 0);
    }

    /// Changes a byte of the file.
    fn change(file: &Path) {
        let mut content = fs::read(file).unwrap();
        content[20] ^= 1;
        fs::write(file, content).unwrap();
    }

    fn one_of(dir: &Path) -> PathBuf {
        fs::read_dir(dir).unwrap().next().unwrap().unwrap().path()
    }

    #[tokio::test]
    async fn damage_that_keeps_space_from_being_reclaimed_is_told_as_the_result_of_a_check() {
        let damages: [fn(&Path, &str) -> PathBuf; 3] = [
            |dir, snapshot| {
                let file = dir.join("snapshots").join(snapshot);
                change(&file);
                file
            },
            |dir, _| {
                let file = one_of(&dir.join("index"));
                change(&file);
                file
            },
            |dir, _| {
                let file = one_of(&one_of(&dir.join("data")));
                fs::remove_file(&file).unwrap();
                file
            },
        ];
        for damage in damages {
            let (dir, repository, ids) = repository(1);
            let file = damage(dir.path(), ids[0].as_str());
            let told = Told::default();
            let gone = "0".repeat(64).parse().unwrap();
            let failure = forget(settings(&dir, vec![gone], true), &told).await.unwrap_err();
            assert_eq!(failure.exit_code(), 4);
            let (text, name) = (failure.to_string(), &file.file_name().unwrap().to_str().unwrap()[..8]);
            assert!(text.contains("is damaged") && text.contains(name), "{text}");
            assert!(text.contains("bring the files back"), "{text}");
            assert_eq!(*told.0.lock().unwrap(), ["deleted 1", "checked false"], "{name}");
            assert_eq!(repository.locks().unwrap(), []);
        }
    }

    #[tokio::test]
    async fn what_a_prune_meets_and_a_check_does_not_see_is_told_as_the_result_of_a_check_too() {
        let (dir, repository, _) = repository(0);
        // Nothing that can be compressed: the pack with the data is the biggest.
        let numbers = |range: std::ops::Range<u32>| {
            range.flat_map(|number| number.wrapping_mul(0x9E37_79B1).to_le_bytes()).collect::<Vec<u8>>()
        };
        let deleted = backup(&repository, numbers(0..1 << 15));
        let dirs = fs::read_dir(dir.path().join("data")).unwrap();
        let packs = dirs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
        let pack = packs.map(|pack| pack.unwrap().path()).max_by_key(|pack| pack.metadata().unwrap().len());
        // An eighth of it is still needed: the prune reads and repacks that, and a check of the structure does not read it.
        backup(&repository, [numbers(0..1 << 12), numbers(1 << 15..1 << 17)].concat());
        change(&pack.unwrap());
        assert!(repository.check(CheckDepth::Structure).unwrap().is_ok());
        let told = Told::default();
        let failure = forget(settings(&dir, vec![deleted], true), &told).await.unwrap_err();
        assert!(matches!(failure, Failure::Damaged(_)), "{failure:?}");
        assert_eq!(*told.0.lock().unwrap(), ["deleted 1", "checked false"]);
    }

    #[tokio::test]
    async fn a_storage_that_is_away_is_no_damage_and_nobody_waits_for_it_a_second_time() {
        let (dir, _, ids) = repository(2);
        fs::rename(dir.path().join("index"), dir.path().join("elsewhere")).unwrap();
        fs::write(dir.path().join("index"), "no directory").unwrap();
        let told = Told::default();
        let failure = forget(settings(&dir, ids[..1].to_vec(), true), &told).await.unwrap_err();
        assert!(matches!(failure, Failure::Repository(_)), "{failure:?}");
        assert_eq!(*told.0.lock().unwrap(), ["deleted 1"]);
    }
}

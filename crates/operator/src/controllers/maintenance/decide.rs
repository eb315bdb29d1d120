//! What is due at a location, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kubedr_api::names::{annotation, finalizer, job_type, label};
use kubedr_api::task::env;
use kubedr_api::{
    BackupLocation, BackupLocationStatus, MetadataBackupRecord, PendingDeletion, Phase, check_due,
};

use crate::controllers::{finalizers, record};
use crate::failure::{condition, ended_at};

/// Records that are deleted together get one job: it starts this long after the first of them.
const GATHERING: SignedDuration = SignedDuration::from_secs(5);
const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// Snapshots for one job. A variable of the environment has room for twice as many.
const SNAPSHOTS_MAX: usize = 1000;
/// Time from the first failure to the second try; it doubles with every failure.
const FIRST_RETRY: SignedDuration = SignedDuration::from_mins(1);
/// Longest time between two tries.
const LAST_RETRY: SignedDuration = SignedDuration::from_mins(10);
/// Space is reclaimed at most once in this time.
const PRUNE_PERIOD: SignedDuration = SignedDuration::from_hours(24);
/// And tried again after this one if that failed.
const PRUNE_RETRY: SignedDuration = SignedDuration::from_hours(1);
/// Finished jobs that delete snapshots, as many as KubeDR 0.x kept.
const FORGET_JOBS_MAX: usize = 3;

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Looks at the repository and brings the records up to date.
    Sync,
    /// Deletes these snapshots and perhaps reclaims space.
    Forget {
        /// Ids, in full.
        snapshots: Vec<String>,
        /// Whether space is reclaimed.
        prune: bool,
    },
}

/// A maintenance job of a location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaintenanceJob {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// What it does.
    pub task: Task,
    /// Which try it is.
    pub attempt: u32,
    /// The initialisation that it came after.
    pub initialisation: Initialisation,
    /// How far it has come.
    pub progress: Progress,
    /// Whether it is being deleted.
    pub leaving: bool,
}

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It or its pod is there.
    Active,
    /// It ended with exit code 0.
    Succeeded(Timestamp),
    /// It ended without success.
    Failed(Timestamp),
}

/// What tells one initialisation of a location from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initialisation {
    /// Generation of the location.
    pub generation: i64,
    /// Resource version of its Secret.
    pub credentials_version: String,
}

impl Initialisation {
    /// The one that the status speaks of.
    #[must_use]
    pub fn of(status: &BackupLocationStatus) -> Self {
        Self {
            generation: status.observed_generation.unwrap_or_default(),
            credentials_version: status.credentials_version.clone().unwrap_or_default(),
        }
    }
}

impl MaintenanceJob {
    /// What is to be known of this Job; `None` if it does something else.
    #[must_use]
    pub fn of(job: &Job) -> Option<Self> {
        let annotation = |key: &str| job.annotations().get(key).map(String::as_str).unwrap_or_default();
        let task = match job.labels().get(label::TYPE)?.as_str() {
            job_type::SYNC => Task::Sync,
            job_type::FORGET => Task::Forget {
                snapshots: variable(job, env::SNAPSHOTS)
                    .split(',')
                    .filter(|id| !id.is_empty())
                    .map(str::to_owned)
                    .collect(),
                prune: variable(job, env::PRUNE) == "true",
            },
            _ => return None,
        };
        let ended = ended_at(job).unwrap_or(Timestamp::UNIX_EPOCH);
        let progress = if condition(job, "Complete").is_some() {
            Progress::Succeeded(ended)
        } else if condition(job, "Failed").is_some() {
            Progress::Failed(ended)
        } else {
            Progress::Active
        };
        Some(Self {
            name: job.name_any(),
            uid: job.uid().unwrap_or_default(),
            task,
            attempt: annotation(annotation::ATTEMPT).parse().unwrap_or(1),
            initialisation: Initialisation {
                generation: annotation(annotation::GENERATION).parse().unwrap_or_default(),
                credentials_version: annotation(annotation::CREDENTIALS_VERSION).to_owned(),
            },
            progress,
            leaving: job.metadata.deletion_timestamp.is_some(),
        })
    }

    const fn ended(&self) -> Option<Timestamp> {
        match self.progress {
            Progress::Active => None,
            Progress::Succeeded(at) | Progress::Failed(at) => Some(at),
        }
    }

    const fn is_sync(&self) -> bool {
        matches!(self.task, Task::Sync)
    }
}

fn variable<'a>(job: &'a Job, name: &str) -> &'a str {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let container = pod.and_then(|pod| pod.containers.first());
    let all = container.and_then(|container| container.env.as_ref());
    let value = all.and_then(|all| all.iter().find(|variable| variable.name == name)?.value.as_deref());
    value.unwrap_or_default()
}

/// What the records of a location that are being deleted ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deletions {
    /// Snapshots to delete.
    pub known: Vec<Deletion>,
    /// When records were deleted that do not know their snapshot in full: a look at the repository finds it, or finds none.
    pub unidentified: Vec<Timestamp>,
}

impl Deletions {
    /// What these records ask of this location.
    pub fn of<'a>(records: impl Iterator<Item = &'a MetadataBackupRecord>, location: &str) -> Self {
        let mut all = Self::default();
        for record in records {
            let Some(since) = asked(record, location) else { continue };
            match Deletion::of(record, since) {
                Some(deletion) => all.known.push(deletion),
                None => all.unidentified.push(since),
            }
        }
        all
    }
}

/// When it was asked for that the snapshot of this record of this location is deleted, if it was and has not been.
fn asked(record: &MetadataBackupRecord, location: &str) -> Option<Timestamp> {
    let since = record.metadata.deletion_timestamp.as_ref()?.0;
    let guarded = finalizers::has(&record.metadata, finalizer::RECORD);
    (record.spec.backuploc == location && guarded && !record::is_gone(record)).then_some(since)
}

/// A snapshot whose record is being deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The snapshot's id, in full.
    pub snapshot: String,
    /// Identity of the repository that holds it.
    pub repository: String,
    /// When the record was deleted.
    pub since: Timestamp,
}

impl Deletion {
    /// The deletion that this record asks for since then, if enough is known.
    fn of(record: &MetadataBackupRecord, since: Timestamp) -> Option<Self> {
        let status = record.status.as_ref()?;
        Some(Self { snapshot: status.snapshot_id.clone()?, repository: status.repository_id.clone()?, since })
    }
}

/// What is known of a location.
#[derive(Clone, Debug)]
pub struct State<'a> {
    /// The location.
    pub location: &'a BackupLocation,
    /// Its maintenance jobs.
    pub jobs: &'a [MaintenanceJob],
    /// What its records that are being deleted ask for.
    pub deletions: &'a Deletions,
    /// The time.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    Wait,
    /// Look again after this time, unless something changes before.
    LookAgain(Duration),
    /// Create a job.
    Start(Due),
}

/// A job that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: Timestamp,
    /// What it does.
    pub task: Task,
    /// Which try it is.
    pub attempt: u32,
}

/// What is to be done about a location in this state.
///
/// One job at a time: both kinds work on the whole repository. A look at it is short and comes first.
#[must_use]
pub fn decide(state: &State<'_>) -> Action {
    let Some((repository, status)) = initialised(state.location) else { return Action::Wait };
    if state.jobs.iter().any(|job| job.progress == Progress::Active) {
        return Action::Wait;
    }
    let due = [Some(sync(state, status)), forget(state, status, repository)];
    let mut all: Vec<_> = due.into_iter().flatten().collect();
    if let Some(now) = all.iter().position(|due| due.at <= state.now) {
        return Action::Start(all.swap_remove(now));
    }
    let Some(next) = all.iter().map(|due| due.at).min() else { return Action::Wait };
    let wait = Duration::try_from(next.duration_since(state.now)).unwrap_or_default();
    Action::LookAgain(wait + Duration::from_millis(50))
}

/// Identity of the repository and status, if the location is initialised as it is specified.
fn initialised(location: &BackupLocation) -> Option<(&str, &BackupLocationStatus)> {
    let status = location.status.as_ref()?;
    let current = status.observed_generation == location.metadata.generation;
    let stays = location.metadata.deletion_timestamp.is_none();
    let done = status.init_status == Some(Phase::Completed) && current && stays;
    status.repository_id.as_deref().filter(|_| done).map(|repository| (repository, status))
}

/// The next look at the repository.
fn sync(state: &State<'_>, status: &BackupLocationStatus) -> Due {
    let due = |at, attempt| Due { at, task: Task::Sync, attempt };
    let initialisation = Initialisation::of(status);
    let of_it = state.jobs.iter().filter(|job| job.is_sync() && job.initialisation == initialisation);
    let last = of_it.filter_map(|job| Some((job.ended()?, job))).max_by_key(|(ended, _)| *ended);
    let looked = time(status.last_validation_time.as_deref());
    let period =
        SignedDuration::try_from(state.location.spec.validation_period()).unwrap_or(SignedDuration::MAX);
    let period = period - spread(&state.location.name_any(), period);
    match last {
        Some((ended, MaintenanceJob { progress: Progress::Failed(_), attempt, .. })) => {
            due(later(ended, retry_after(*attempt).min(period)), attempt.saturating_add(1))
        }
        Some((ended, _)) => due(later(ended, period).min(asked_after(state, ended)), 1),
        // The jobs are gone or there were none: what the status says has to do.
        None => match looked {
            // A time that has not come yet is that of a clock which was wrong.
            Some(looked) if Some(looked) >= time(status.init_time.as_deref()) => {
                let looked = looked.min(state.now);
                due(later(looked, period).min(asked_after(state, looked)), 1)
            }
            _ => due(state.now, 1),
        },
    }
}

/// When to look because of records that were deleted after this look and do not know their snapshot.
fn asked_after(state: &State<'_>, looked: Timestamp) -> Timestamp {
    // Times of deletion have whole seconds.
    let new = state.deletions.unidentified.iter().filter(|since| later(**since, SECOND) > looked);
    new.min().map_or(Timestamp::MAX, |first| later((*first).min(state.now), GATHERING))
}

/// Snapshots that wait for their deletion in a repository which the location does not lead to any more.
#[must_use]
pub fn stranded(location: &BackupLocation) -> Vec<&PendingDeletion> {
    let Some((repository, status)) = initialised(location) else { return Vec::new() };
    status.pending_deletions.iter().filter(|pending| pending.repository_id != repository).collect()
}

/// The next deletion of snapshots, or the next time that space is reclaimed.
fn forget(state: &State<'_>, status: &BackupLocationStatus, repository: &str) -> Option<Due> {
    if state.location.spec.is_read_only() {
        return None;
    }
    let snapshots = wanted(state, status, repository);
    let prune_at = prune_at(state, status);
    let Some(first) = snapshots.iter().map(|(since, _)| *since).min() else {
        // Where nothing is ever deleted the check that comes after it is due from time to time.
        let check_at = if is_prune_owed(state, status) { prune_at } else { check_due(status, state.now) };
        let task = Task::Forget { snapshots: Vec::new(), prune: true };
        return Some(Due { at: prune_at.max(check_at), task, attempt: 1 });
    };
    let snapshots: Vec<_> = snapshots.into_iter().map(|(_, id)| id).take(SNAPSHOTS_MAX).collect();
    // A clock that is behind must not make the time to gather a long one.
    let gathered = later(first.min(state.now), GATHERING);
    let (at, attempt) = match last_forget(state.jobs) {
        Some((ended, job)) if !has_news(job, &snapshots) => {
            (later(ended, retry_after(job.attempt)).max(gathered), job.attempt.saturating_add(1))
        }
        _ => (gathered, 1),
    };
    let prune = prune_at <= state.now;
    Some(Due { at, task: Task::Forget { snapshots, prune }, attempt })
}

/// Snapshots that are to be deleted from the repository, each once, those that wait longest first.
fn wanted(state: &State<'_>, status: &BackupLocationStatus, repository: &str) -> Vec<(Timestamp, String)> {
    let of_records =
        state.deletions.known.iter().map(|d| (d.since, d.snapshot.clone(), d.repository.as_str()));
    let pending = status.pending_deletions.iter().map(|pending| {
        let since = time(Some(&pending.since)).unwrap_or(Timestamp::UNIX_EPOCH);
        (since, pending.snapshot_id.clone(), pending.repository_id.as_str())
    });
    let here = of_records.chain(pending).filter(|(.., holder)| *holder == repository);
    let mut all: Vec<_> = here.map(|(since, snapshot, _)| (since, snapshot)).collect();
    all.sort_unstable();
    let mut seen = BTreeSet::new();
    all.retain(|(_, snapshot)| seen.insert(snapshot.clone()));
    all
}

fn last_forget(jobs: &[MaintenanceJob]) -> Option<(Timestamp, &MaintenanceJob)> {
    let ended = jobs.iter().filter(|job| !job.is_sync()).filter_map(|job| Some((job.ended()?, job)));
    ended.max_by_key(|(ended, _)| *ended)
}

/// Whether there is something to delete that a job which ended well was not told of. After one that failed the storage is
/// given its time, whatever else has come.
fn has_news(job: &MaintenanceJob, snapshots: &[String]) -> bool {
    match (&job.progress, &job.task) {
        (Progress::Succeeded(_), Task::Forget { snapshots: told, .. }) => {
            snapshots.iter().any(|id| !told.contains(id))
        }
        _ => false,
    }
}

/// When space may be reclaimed.
fn prune_at(state: &State<'_>, status: &BackupLocationStatus) -> Timestamp {
    let last = status.last_prune.as_ref().and_then(|prune| time(Some(&prune.time)));
    let tried = noted(state.location, annotation::LAST_PRUNE_TRY);
    let after = |at: Option<Timestamp>, wait| at.map(|at| later(at.min(state.now), wait));
    after(last, PRUNE_PERIOD).max(after(tried, PRUNE_RETRY)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Whether something is left that reclaiming space would delete.
fn is_prune_owed(state: &State<'_>, status: &BackupLocationStatus) -> bool {
    let last = status.last_prune.as_ref();
    let deleted = noted(state.location, annotation::LAST_DELETION);
    let since = deleted > last.and_then(|prune| time(Some(&prune.time)));
    since || last.is_some_and(|prune| prune.bytes_marked > 0)
}

fn noted(location: &BackupLocation, key: &str) -> Option<Timestamp> {
    time(location.annotations().get(key).map(String::as_str))
}

fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

fn later(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

fn retry_after(attempt: u32) -> SignedDuration {
    FIRST_RETRY.saturating_mul(1 << attempt.saturating_sub(1).min(8)).min(LAST_RETRY)
}

/// Up to a tenth of the period, by name, so that locations which came together do not stay together.
fn spread(name: &str, period: SignedDuration) -> SignedDuration {
    let sum: i32 = name.bytes().map(i32::from).sum();
    period / 1000 * (sum % 100)
}

/// Finished forget jobs beyond those that are kept. One that is about to start or at work will be one of them.
#[must_use]
pub fn surplus<'a>(jobs: &'a [MaintenanceJob], action: &Action) -> Vec<&'a str> {
    let starts = matches!(action, Action::Start(Due { task: Task::Forget { .. }, .. }));
    let works = jobs.iter().any(|job| !job.is_sync() && job.progress == Progress::Active);
    let mut finished: Vec<_> = jobs
        .iter()
        .filter(|job| !job.is_sync() && !job.leaving)
        .filter_map(|job| Some((job.ended()?, job.name.as_str())))
        .collect();
    finished.sort_unstable_by(|a, b| b.cmp(a));
    let kept = FORGET_JOBS_MAX - usize::from(starts || works);
    finished.into_iter().skip(kept).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests;

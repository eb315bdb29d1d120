//! Follows Jobs until it is known what became of them, and tells it when they cannot tell it themselves.
//!
//! Each look is at fresh facts: the Job's pods and, while a pod does not start, its events are read from the API server,
//! not from a cache. That a failure has been told is noted on the Job, so a restarted operator does not tell it again.

mod decide;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use kubedr_api::names::{annotation, exit_code, field_manager, job_type, label};
use kubedr_api::{InitOutcome, InitReport, RestoreOutcome, RestoreReport, RunIdentity, RunOutcome};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::controllers::{changes, drive, forget_details};
use crate::failure::{Facts, Verdict, condition, ended_at};
use crate::metrics::ControllerName;
use crate::report::{self, ReportError};
use decide::{Action, State, decide};

/// How long a failed Job may wait for its pods to go.
const STUCK_AFTER: SignedDuration = SignedDuration::from_secs(90);

/// Why a Job could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The failure could not be told.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Selects the Jobs and pods that are followed.
fn selector() -> String {
    let all = [job_type::BACKUP, job_type::INIT, job_type::RESTORE, job_type::SYNC, job_type::FORGET];
    format!("{} in ({})", label::TYPE, all.join(", "))
}

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let config = watcher::Config::default().labels(&selector());
    let (jobs, writer) = store::<Job>();
    let stream = watcher(ctx.api::<Job>(), config.clone())
        .default_backoff()
        .modify(|job: &mut Job| forget_details(&mut job.metadata))
        .reflect(writer)
        .applied_objects();
    let pods = changes::<Pod>(&ctx, config);
    let controller = Controller::for_stream(stream, jobs).watches_stream(pods, |pod| {
        let job = pod.labels().get(label::JOB_NAME)?;
        Some(ObjectRef::new(job).within(&pod.namespace()?))
    });
    drive(ControllerName::Run, controller, reconcile, Arc::clone(&ctx), ctx, shutdown).await;
}

pub(super) async fn reconcile(job: Arc<Job>, ctx: Arc<Context>) -> Result<Requeue, RunError> {
    let Some(subject) = Subject::of(&job) else { return Ok(Requeue::await_change()) };
    if job.metadata.deletion_timestamp.is_some() {
        // Whoever deletes it ends it: a location that starts anew, or an admin, whom the policy's controller tells.
        return Ok(Requeue::await_change());
    }
    let told = job.annotations().contains_key(annotation::FAILURE);
    if told && let Some(ended) = ended_at(&job) {
        return remove_if_stuck(&ctx, &job, Timestamp::now().duration_since(ended)).await;
    }
    let pods = pods_of(&ctx, &job).await?;
    let verdict = look(&ctx, &job, &pods).await?;
    let now = Timestamp::now();
    let state = State {
        verdict,
        told,
        created: created(&job, now),
        start_timeout: SignedDuration::from_secs(ctx.settings.start_timeout_seconds),
        now,
    };
    match decide(&state) {
        Action::Wait => {}
        Action::LookAgain(after) => return Ok(Requeue::requeue(after)),
        Action::Tell(message) => {
            subject.tell(&ctx, &job, &pods, outcome(&state, &message)).await?;
            note(&ctx, &job, json!({ "metadata": failure(&message) })).await?;
        }
        Action::TellAndEnd(message) => {
            subject.tell(&ctx, &job, &pods, outcome(&state, &message)).await?;
            note(&ctx, &job, json!({ "metadata": failure(&message), "spec": end() })).await?;
        }
        Action::End => note(&ctx, &job, json!({ "spec": end() })).await?,
    }
    Ok(Requeue::await_change())
}

/// What is told of a Job in this state.
fn outcome(state: &State, message: &str) -> RunOutcome {
    match state.verdict {
        Verdict::Failed(_) => RunOutcome::Failed(message.to_owned()),
        _ => RunOutcome::CannotStart(message.to_owned()),
    }
}

/// A Job that has failed is not finished before its pods are gone, and that of a dead node never is. It would keep every later
/// run from starting, so it is deleted after a while.
async fn remove_if_stuck(ctx: &Context, job: &Job, since: SignedDuration) -> Result<Requeue, RunError> {
    if condition(job, "Failed").is_some() || condition(job, "Complete").is_some() {
        return Ok(Requeue::await_change());
    }
    if since < STUCK_AFTER {
        let left = Duration::try_from(STUCK_AFTER - since).unwrap_or_default();
        return Ok(Requeue::requeue(left + Duration::from_millis(50)));
    }
    let name = job.name_any();
    tracing::warn!(job = name, "deleting a failed job whose pod cannot be removed from its node");
    match call(|| format!("delete job `{name}`"), ctx.api::<Job>().delete(&name, &DeleteParams::background()))
        .await
    {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(Requeue::await_change()),
    }
}

/// Whose Job it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Policy(String),
    Location(String),
    Restore(String),
    /// A location that is looked at.
    Catalogue(String),
    /// A location whose snapshots are deleted.
    Maintenance(String),
}

impl Subject {
    fn of(job: &Job) -> Option<Self> {
        let name = |key| job.labels().get(key).cloned();
        match job.labels().get(label::TYPE)?.as_str() {
            job_type::BACKUP => name(label::POLICY).map(Self::Policy),
            job_type::INIT => name(label::LOCATION).map(Self::Location),
            job_type::RESTORE => name(label::RESTORE).map(Self::Restore),
            job_type::SYNC => name(label::LOCATION).map(Self::Catalogue),
            job_type::FORGET => name(label::LOCATION).map(Self::Maintenance),
            _ => None,
        }
    }

    async fn tell(
        &self,
        ctx: &Context,
        job: &Job,
        pods: &[Pod],
        outcome: RunOutcome,
    ) -> Result<(), ReportError> {
        let now = Timestamp::now();
        let ended = ended_at(job).unwrap_or(now);
        match self {
            Self::Policy(policy) => {
                let pod = Facts { job, pods, events: &[] }.pod().map(ResourceExt::name_any);
                let run = RunIdentity {
                    job_name: job.name_any(),
                    job_uid: job.uid().unwrap_or_default(),
                    pod,
                    started: created(job, now),
                };
                report::backup_failed(ctx, policy, run, outcome, ended).await
            }
            Self::Location(location) => {
                let (RunOutcome::Failed(message) | RunOutcome::CannotStart(message)) = outcome else {
                    return Ok(());
                };
                let outcome = InitOutcome::Failed(message);
                report::init(ctx, location, &init_report(job, outcome), ended).await
            }
            Self::Restore(restore) => {
                let (RunOutcome::Failed(message) | RunOutcome::CannotStart(message)) = outcome else {
                    return Ok(());
                };
                let report = RestoreReport {
                    job_uid: job.uid(),
                    generation: generation(job),
                    outcome: RestoreOutcome::Failed(message),
                };
                report::restore(ctx, restore, &report, ended).await
            }
            Self::Catalogue(location) | Self::Maintenance(location) => {
                let (RunOutcome::Failed(message) | RunOutcome::CannotStart(message)) = outcome else {
                    return Ok(());
                };
                let uid = job.uid().unwrap_or_default();
                let failure = report::Failure {
                    location,
                    job: &uid,
                    generation: generation(job),
                    message: &message,
                    ended,
                };
                // A look that could not be reported says nothing about the storage.
                let unreported = Facts { job, pods, events: &[] }.exit_code() == Some(exit_code::REPORTING);
                match self {
                    Self::Catalogue(_) if !unreported => report::sync_failed(ctx, failure).await,
                    _ => report::maintenance_failed(ctx, failure).await,
                }
            }
        }
    }
}

/// A word about this init job.
pub fn init_report(job: &Job, outcome: InitOutcome) -> InitReport {
    let annotation = |key| job.annotations().get(key).cloned().unwrap_or_default();
    InitReport {
        job_uid: job.uid().unwrap_or_default(),
        generation: generation(job),
        credentials_version: annotation(annotation::CREDENTIALS_VERSION),
        outcome,
    }
}

/// Generation of the object that the Job works for.
fn generation(job: &Job) -> i64 {
    let noted = job.annotations().get(annotation::GENERATION);
    noted.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn created(job: &Job, now: Timestamp) -> Timestamp {
    job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0)
}

async fn pods_of(ctx: &Context, job: &Job) -> Result<Vec<Pod>, ApiError> {
    let params =
        ListParams::default().labels(&format!("{}={}", label::JOB_UID, job.uid().unwrap_or_default()));
    let action = || format!("list pods of job `{}`", job.name_any());
    Ok(call(action, ctx.api::<Pod>().list(&params)).await?.items)
}

/// The verdict; events are read only where the objects themselves do not tell.
async fn look(ctx: &Context, job: &Job, pods: &[Pod]) -> Result<Verdict, ApiError> {
    let facts = Facts { job, pods, events: &[] };
    let verdict = facts.diagnose();
    if !matches!(verdict, Verdict::Starting(_)) {
        return Ok(verdict);
    }
    let uid = facts.pod().map_or_else(|| job.uid(), ResourceExt::uid).unwrap_or_default();
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let events: Api<Event> = ctx.api();
    let action = || format!("list events of job `{}`", job.name_any());
    let events = call(action, events.list(&params)).await?.items;
    Ok(Facts { events: &events, ..facts }.diagnose())
}

fn failure(message: &str) -> serde_json::Value {
    json!({ "annotations": { annotation::FAILURE: message } })
}

/// The Job controller ends a Job whose deadline has passed, and keeps it as a failed one for an admin to look at.
fn end() -> serde_json::Value {
    json!({ "activeDeadlineSeconds": 1 })
}

async fn note(ctx: &Context, job: &Job, patch: serde_json::Value) -> Result<(), ApiError> {
    let name = job.name_any();
    let params =
        PatchParams { field_manager: Some(field_manager::OPERATOR.to_owned()), ..PatchParams::default() };
    let action = || format!("patch job `{name}`");
    match call(action, ctx.api::<Job>().patch(&name, &params, &Patch::Merge(&patch))).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

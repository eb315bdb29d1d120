//! Records: each has the finalizer, and one that is being deleted goes when its snapshot is gone, or when that is not to be.
//!
//! Nothing here deletes a snapshot: `maintenance` has that done.

mod decide;

use std::sync::Arc;

use futures::FutureExt;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action as Requeue, Controller};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use kubedr_api::names::{field_manager, finalizer};
use kubedr_api::{BackupLocation, EventReason, MetadataBackupRecord, short_snapshot_id};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api_call::{ApiError, call};
use crate::context::Context;
use crate::controllers::surroundings::{Remembered, Surroundings};
use crate::controllers::{CACHE_UNKNOWN_RETRY, drive, finalizers, forget_details, mirror};
use crate::metrics::ControllerName;
use crate::occasion::short_hash;
use crate::report::{self, ReportError};
pub use decide::is_gone;
use decide::{Action, Fate, PATIENCE, State, decide, postponed};

/// Name of the kind.
pub const KIND: &str = "MetadataBackupRecord";

/// As it is watched: an object that does not fit the type does not hide the others.
pub type Guarded = DeserializeGuard<MetadataBackupRecord>;
type GuardedLocation = DeserializeGuard<BackupLocation>;

/// Why a record could not be acted on.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What happened could not be told.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Context of this controller.
pub(super) struct Records {
    pub(super) ctx: Arc<Context>,
    /// All of them.
    pub(super) all: Store<Guarded>,
    pub(super) locations: Store<GuardedLocation>,
    pub(super) surroundings: Remembered,
}

/// Runs until `shutdown`.
pub async fn run(ctx: Arc<Context>, shutdown: CancellationToken) {
    let (records, writer) = store::<Guarded>();
    let stream = watcher(ctx.api::<Guarded>(), watcher::Config::default())
        .default_backoff()
        .modify(|record| forget_details(record.meta_mut()))
        .reflect(writer)
        .applied_objects();
    let (locations, location_stream) = mirror::<GuardedLocation>(&ctx, watcher::Config::default());
    let known = records.clone();
    let controller = Controller::for_stream(stream, records.clone())
        .watches_stream(location_stream, move |location| leaving_ones(&location.name_any(), &known));
    let shared = Arc::new(Records {
        ctx: Arc::clone(&ctx),
        all: records,
        locations,
        surroundings: Remembered::default(),
    });
    drive(ControllerName::Record, controller, reconcile, ctx, shared, shutdown).await;
}

/// The records of this location that are being deleted: what becomes of them depends on it.
fn leaving_ones(location: &str, records: &Store<Guarded>) -> Vec<ObjectRef<Guarded>> {
    let of_it = |guarded: &Guarded| {
        guarded.meta().deletion_timestamp.is_some()
            && guarded.0.as_ref().is_ok_and(|record| record.spec.backuploc == location)
    };
    let all = records.state().into_iter().filter(|record| of_it(record));
    all.map(|record| ObjectRef::from_obj(&*record)).collect()
}

pub(super) async fn reconcile(guarded: Arc<Guarded>, shared: Arc<Records>) -> Result<Requeue, RecordError> {
    let ctx = &*shared.ctx;
    let Ok(record) = &guarded.0 else {
        // Nobody can tell which snapshot it stands for.
        if guarded.meta().deletion_timestamp.is_some() {
            release(ctx, &*guarded, Fate::Kept("the record does not fit the schema".to_owned()), "unknown")
                .await?;
        }
        return Ok(Requeue::await_change());
    };
    if shared.locations.wait_until_ready().now_or_never().is_none() {
        return Ok(Requeue::requeue(CACHE_UNKNOWN_RETRY));
    }
    let cached = cached_location(&shared, &record.spec.backuploc);
    let surroundings =
        if needs_surroundings(record) { shared.surroundings.get(ctx).await? } else { Surroundings::Staying };
    let now = Timestamp::now();
    let action = decide(&State { record, location: cached.as_ref(), surroundings, now });
    match action {
        Action::Leave => Ok(Requeue::await_change()),
        Action::LookAgain(after) => Ok(Requeue::requeue(after)),
        Action::Guard => {
            finalizers::add::<MetadataBackupRecord>(ctx, &record.metadata, finalizer::RECORD).await?;
            Ok(Requeue::await_change())
        }
        Action::Release(fate @ (Fate::Deleted | Fate::Missing | Fate::Untouched)) => {
            release(ctx, record, fate, snapshot(record)).await?;
            Ok(Requeue::await_change())
        }
        Action::Release(_) | Action::Postpone => give_up(&shared, record).await,
    }
}

/// What is being deleted and not yet gone from the repository may be on its way with all that surrounds it; and what is about to go
/// with it gets no finalizer.
fn needs_surroundings(record: &MetadataBackupRecord) -> bool {
    if record.metadata.deletion_timestamp.is_some() {
        !is_gone(record)
    } else {
        !finalizers::has(&record.metadata, finalizer::RECORD)
    }
}

fn cached_location(shared: &Records, name: &str) -> Option<BackupLocation> {
    let key = ObjectRef::new(name).within(&shared.ctx.namespace);
    // One that does not fit the schema is there all the same; the fresh read that follows fails until it is corrected.
    shared.locations.get(&key).and_then(|guarded| guarded.0.as_ref().ok().cloned())
}

/// Lets the record go although its snapshot is there, if a fresh look at the location says so too.
async fn give_up(shared: &Records, record: &MetadataBackupRecord) -> Result<Requeue, RecordError> {
    let ctx = &*shared.ctx;
    let name = &record.spec.backuploc;
    let api = ctx.api::<BackupLocation>();
    let location = call(|| format!("read location `{name}`"), api.get_opt(name)).await?;
    let surroundings = shared.surroundings.get(ctx).await?;
    let now = Timestamp::now();
    match decide(&State { record, location: location.as_ref(), surroundings, now }) {
        Action::Release(fate) => release(ctx, record, fate, snapshot(record)).await?,
        Action::Postpone => {
            if let Some(location) = &location {
                postpone(shared, record, location, now).await?;
            }
            // The location's change brings back the others that were noted with this one.
            release(ctx, record, Fate::Pending, snapshot(record)).await?;
        }
        Action::LookAgain(after) => return Ok(Requeue::requeue(after)),
        Action::Leave | Action::Guard => {}
    }
    Ok(Requeue::await_change())
}

/// Notes the snapshots of this record and of all others of the location whose time is over as well.
async fn postpone(
    shared: &Records,
    record: &MetadataBackupRecord,
    location: &BackupLocation,
    now: Timestamp,
) -> Result<(), RecordError> {
    let ctx = &*shared.ctx;
    let state = shared.all.state();
    let others = state.iter().filter_map(|guarded| guarded.0.as_ref().ok()).filter(|other| {
        let state =
            State { record: other, location: Some(location), surroundings: Surroundings::Staying, now };
        other.spec.backuploc == record.spec.backuploc && decide(&state) == Action::Postpone
    });
    let records: Vec<_> = std::iter::once(record).chain(others).collect();
    let known = location.status.clone().unwrap_or_default().pending_deletions;
    let (all, added) = postponed(&known, &records, now);
    if added.is_empty() {
        return Ok(());
    }
    let name = location.name_any();
    // With the resource version: the jobs take entries off the same list. After a conflict the reconcile is tried again.
    let patch = json!({
        "metadata": { "resourceVersion": location.metadata.resource_version },
        "status": { "pendingDeletions": all },
    });
    let params =
        PatchParams { field_manager: Some(field_manager::OPERATOR.to_owned()), ..PatchParams::default() };
    let api = ctx.api::<BackupLocation>();
    let action = || format!("note pending deletions of location `{name}`");
    call(action, api.patch_status(&name, &params, &Patch::Merge(&patch))).await?;
    tracing::warn!(
        location = name,
        records = added.len(),
        "snapshots could not be deleted in time and are noted"
    );
    let message = format!(
        "the snapshots of {} records could not be deleted within {} minutes: {}; they are noted in \
         `status.pendingDeletions` and deleted as soon as the storage answers",
        added.len(),
        PATIENCE.as_mins(),
        added.join(", ")
    );
    let occasion =
        short_hash(&added.iter().map(String::as_str).chain([now.to_string().as_str()]).collect::<Vec<_>>());
    let subject = report::subject("BackupLocation", location);
    report::event(ctx, &subject, EventReason::DeletionPending, &occasion, &message).await?;
    Ok(())
}

/// What a message calls the snapshot.
fn snapshot(record: &MetadataBackupRecord) -> &str {
    let full = record.status.as_ref().and_then(|status| status.snapshot_id.as_deref());
    full.unwrap_or(&record.spec.snapshot_id)
}

/// Tells what became of the snapshot, unless that has been told, then takes the finalizer off.
async fn release<K>(ctx: &Context, record: &K, fate: Fate, snapshot: &str) -> Result<(), RecordError>
where
    K: Resource<DynamicType = ()>,
{
    let name = record.name_any();
    let word = match &fate {
        Fate::Deleted => Some((
            EventReason::SnapshotDeleted,
            format!("snapshot {} was deleted with its record", short_snapshot_id(snapshot)),
        )),
        Fate::Kept(why) => Some((
            EventReason::SnapshotKept,
            format!("the record goes and its snapshot stays in the repository (id {snapshot}): {why}"),
        )),
        Fate::Missing | Fate::Untouched | Fate::Pending => None,
    };
    if let Some((reason, message)) = word {
        let subject = report::subject(KIND, record);
        let occasion = short_hash(&[&subject.uid]);
        let told = report::event(ctx, &subject, reason, &occasion, &message).await;
        // In a namespace that is being deleted nothing can be created, and the record has to go all the same.
        if let Err(error) = told
            && !matches!(&error, ReportError::Api(error) if error.is_refusal())
        {
            return Err(error.into());
        }
    }
    tracing::info!(record = name, snapshot, ?fate, "a record goes");
    Ok(finalizers::remove::<MetadataBackupRecord>(ctx, record.meta(), finalizer::RECORD).await?)
}

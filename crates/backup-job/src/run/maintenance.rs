//! `forget`, `prune`, `check` and `sync`: from their arguments to their work.

use std::sync::Arc;

use kubedr_repo::{CheckDepth, SnapshotId};

use super::{Identity, finish, locking, missing, non_empty, terminated, writable};
use crate::{
    Failure, ForgetSettings, Locking, NoNeighbours, SecretSource, Storage, SyncSettings,
    args::{CheckArgs, ForgetArgs, LockArgs, PruneArgs, RunArgs, Secrets, StorageArgs, SyncArgs},
    check, forget, look, plan_prune,
    report::{ForgetReporter, KubeApi, Nobody, Subject, SyncReporter},
};

pub(super) async fn forget_snapshots(args: ForgetArgs) -> Result<(), Failure> {
    writable(&args.storage, "deletes no snapshot")?;
    let secrets = Secrets::from_environment();
    if non_empty(args.run.location.as_ref()).is_none() {
        let locking = by_hand(&args.storage, &args.lock, &args.run);
        let work = async { forget(forget_settings(&args, secrets, None, locking)?, &Nobody).await };
        return finish(work, &Nobody).await;
    }
    let identity = Identity::new(&args.run, "--location")?;
    let api = KubeApi::connect(&identity.namespace).await.map_err(Failure::Configuration)?;
    let subject = Subject::Location(identity.location.clone());
    let locking = identity.locking(&api, &args.storage, &args.lock, &args.run, subject);
    if non_empty(args.repository_id.as_ref()).is_none() {
        return Err(missing("--repository-id", "--location"));
    }
    let reporter = ForgetReporter { api, location: identity.location, job_uid: identity.run.job_uid };
    let work = async {
        let settings = forget_settings(&args, secrets, Some(&identity.namespace), locking)?;
        forget(settings, &reporter).await
    };
    finish(work, &reporter).await
}

fn forget_settings(
    args: &ForgetArgs,
    secrets: Secrets,
    namespace: Option<&str>,
    locking: Locking,
) -> Result<ForgetSettings, Failure> {
    let source = SecretSource::new(args.storage.credentials.as_deref(), namespace);
    let ids = args.snapshots.iter().map(|id| id.trim()).filter(|id| !id.is_empty());
    let snapshots = ids.map(str::parse).collect::<Result<Vec<SnapshotId>, _>>();
    let snapshots = snapshots.map_err(|error| {
        Failure::Configuration(format!("`--snapshot`: {error}; `restic snapshots --json` shows them"))
    })?;
    if snapshots.is_empty() && !args.prune {
        let message = "nothing to do: give snapshots to delete (`--snapshot ID`), or `--prune`";
        return Err(Failure::Configuration(message.to_owned()));
    }
    Ok(ForgetSettings {
        storage: Storage::new(&args.storage, secrets, source)?,
        repository_id: non_empty(args.repository_id.as_ref()).map(str::to_owned),
        snapshots,
        prune: args.prune,
        locking,
    })
}

pub(super) async fn prune(args: PruneArgs) -> Result<(), Failure> {
    let PruneArgs { storage, lock, dry_run } = args;
    if !dry_run {
        writable(&storage, "gives no space back")?;
    }
    let locking = by_hand(&storage, &lock, &RunArgs::default());
    let secrets = Secrets::from_environment();
    if dry_run {
        let work = async {
            let storage = Storage::new(&storage, secrets, SecretSource::Environment)?;
            plan_prune(storage, &locking).await
        };
        return finish(work, &Nobody).await;
    }
    let work = async {
        let storage = Storage::new(&storage, secrets, SecretSource::Environment)?;
        let settings =
            ForgetSettings { storage, repository_id: None, snapshots: Vec::new(), prune: true, locking };
        forget(settings, &Nobody).await
    };
    finish(work, &Nobody).await
}

pub(super) async fn check_repository(args: CheckArgs) -> Result<(), Failure> {
    let CheckArgs { storage, lock, read_data } = args;
    let locking = by_hand(&storage, &lock, &RunArgs::default());
    let depth = if read_data { CheckDepth::ReadData } else { CheckDepth::Structure };
    let work = async {
        let storage = Storage::new(&storage, Secrets::from_environment(), SecretSource::Environment)?;
        check(storage, depth, &locking).await
    };
    finish(work, &Nobody).await
}

pub(super) async fn sync(args: SyncArgs) -> Result<(), Failure> {
    let identity = Identity::new(&args.run, "--location")?;
    let required = |value: Option<&String>, flag| {
        non_empty(value).map(str::to_owned).ok_or_else(|| missing(flag, "--location"))
    };
    let repository_id = required(args.repository_id.as_ref(), "--repository-id")?;
    let reporter = SyncReporter {
        api: KubeApi::connect(&identity.namespace).await.map_err(Failure::Configuration)?,
        location: identity.location.clone(),
        job_uid: identity.run.job_uid,
        generation: args.location_generation.ok_or_else(|| missing("--location-generation", "--location"))?,
    };
    // Not a part of the work: that the API server does not answer says nothing about the repository.
    let known = tokio::select! {
        known = reporter.known() => known.map_err(Failure::Reporting)?,
        () = terminated() => return Err(Failure::Terminated),
    };
    let work = async {
        let source = SecretSource::new(args.storage.credentials.as_deref(), Some(&identity.namespace));
        let settings = SyncSettings {
            storage: Storage::new(&args.storage, Secrets::from_environment(), source)?,
            repository_id,
            location: identity.location,
            cluster: non_empty(args.run.cluster.as_ref()).map(str::to_owned),
            known,
        };
        look(settings).await
    };
    finish(work, &reporter).await
}

fn by_hand(storage: &StorageArgs, lock: &LockArgs, run: &RunArgs) -> Locking {
    locking(storage, lock, run, Arc::new(NoNeighbours))
}

//! The operator as a whole: admin port, lease, controllers, and an orderly end.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::api_call::{ApiError, call};
use crate::args::Args;
use crate::context::Context;
use crate::controllers::surroundings::{self, Surroundings};
use crate::controllers::{location, maintenance, policy, record, restore, retention, run, totals};
use crate::job_settings::{JobSettings, JobSettingsError};
use crate::leader::{Elector, RETRY_PERIOD, Standing};
use crate::release;

/// The namespace whose UID stands for the cluster.
const CLUSTER_NAMESPACE: &str = "kube-system";
/// Time between two tries to reach the API server at start.
const START_RETRY: std::time::Duration = std::time::Duration::from_secs(2);
/// Controllers have this long to end what they are at. A reconcile is a handful of short calls.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Giving the lease away has this long. It runs out by itself, and the pod may have more to do.
const RELEASE: std::time::Duration = std::time::Duration::from_secs(2);
/// Whether the namespace stays is asked once; a pod that ends has no time to lose.
const LOOK: std::time::Duration = std::time::Duration::from_secs(3);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The job settings are of no use.
    #[error(transparent)]
    JobSettings(#[from] JobSettingsError),
    /// No way to the API server is configured.
    #[error("cannot connect to the API server; run in a pod with a service account, or set KUBECONFIG")]
    Client(#[source] kube::Error),
    /// The admin port is not to be had.
    #[error("cannot listen on `{address}`; another program may, or set --metrics-addr")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Cause.
        source: std::io::Error,
    },
    /// The cluster cannot be told from others.
    #[error(
        "the namespace `{CLUSTER_NAMESPACE}` cannot be read, whose UID stands for the cluster in the backups"
    )]
    Cluster(#[source] ApiError),
    /// The controllers have ended, which only a panic can make them do.
    #[error("the controllers ended; the log says why, and a restarted operator starts afresh")]
    ControllersEnded,
}

/// Why a replica no longer leads.
enum End {
    /// The operator was asked to end.
    Asked,
    /// Another replica may lead now.
    LeaseLost,
}

/// Serves until `shutdown`.
pub async fn serve(args: Args, shutdown: CancellationToken) -> Result<(), ServeError> {
    let Args { command: _, namespace, pod_name, metrics_addr, job_settings, log_format: _, log_level: _ } =
        args;
    let settings = load(&job_settings)?;
    let listener = TcpListener::bind(metrics_addr)
        .await
        .map_err(|source| ServeError::Listen { address: metrics_addr, source })?;
    let client = Client::try_default().await.map_err(ServeError::Client)?;
    let admin = Admin { metrics: Arc::default(), readiness: Arc::default() };
    // The port outlives the controllers, so that probes are answered while they end.
    let all_done = CancellationToken::new();
    let port = tokio::spawn(admin.clone().serve(listener, all_done.clone()));
    let Some(cluster_uid) = cluster_uid(&client, &shutdown).await? else { return Ok(()) };
    let ctx = Arc::new(Context {
        client: client.clone(),
        namespace: namespace.clone(),
        settings,
        cluster_uid,
        metrics: admin.metrics,
        readiness: admin.readiness,
    });
    let result = loop {
        let elector = Elector::new(Api::namespaced(client.clone(), &namespace), &pod_name);
        match lead(Arc::clone(&ctx), elector, &shutdown).await {
            // A process that ended would start afresh, too. But after some bad minutes of the API server the kubelet would wait
            // for up to five more before it starts it again.
            Ok(End::LeaseLost) => {
                tracing::warn!("the lease was lost and all work was stopped; starting afresh");
            }
            Ok(End::Asked) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    if shutdown.is_cancelled() {
        leave(&ctx).await;
    }
    all_done.cancel();
    // It cannot fail but by a panic, which has been printed.
    let _ = port.await;
    result
}

fn load(path: &Path) -> Result<Arc<JobSettings>, ServeError> {
    let settings = JobSettings::load(path)?;
    tracing::info!(image = settings.image, path = %path.display(), "the job settings are read");
    Ok(Arc::new(settings))
}

/// `None` if the end came first.
async fn cluster_uid(client: &Client, shutdown: &CancellationToken) -> Result<Option<String>, ServeError> {
    let namespaces = Api::<Namespace>::all(client.clone());
    loop {
        let action = || format!("read namespace `{CLUSTER_NAMESPACE}`");
        let pause = match call(action, namespaces.get(CLUSTER_NAMESPACE)).await {
            Ok(namespace) => return Ok(namespace.uid()),
            Err(error) if error.code().is_some_and(|code| code < 500 && code != 429) => {
                return Err(ServeError::Cluster(error));
            }
            Err(error) => {
                tracing::warn!(%error, "the API server cannot be reached yet");
                START_RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whoever deletes the namespace ends the operator first, and nobody will be left to take the finalizer off the records.
async fn leave(ctx: &Context) {
    match tokio::time::timeout(LOOK, surroundings::read(ctx)).await {
        Ok(Ok(Surroundings::Staying)) => {}
        Ok(Ok(Surroundings::Leaving)) => {
            tracing::info!(namespace = ctx.namespace, "the records' namespace or kind is being deleted");
            if let Err(error) = release::let_go(&ctx.client, &ctx.namespace).await {
                tracing::error!(%error, "records keep their finalizer");
            }
        }
        Ok(Err(error)) => tracing::warn!(%error, "whether the namespace stays could not be read"),
        Err(_) => tracing::warn!("whether the namespace stays could not be read in time"),
    }
}

/// Waits for the lease, runs the controllers while it is held, and gives it away in the end.
async fn lead(
    ctx: Arc<Context>,
    mut elector: Elector,
    shutdown: &CancellationToken,
) -> Result<End, ServeError> {
    loop {
        if shutdown.is_cancelled() {
            return Ok(End::Asked);
        }
        match elector.look(Instant::now(), Timestamp::now()).await {
            Standing::Leading => break,
            Standing::Blind => ctx.readiness.blind(),
            Standing::Standby | Standing::Lost => ctx.readiness.standby(),
        }
        pause(shutdown).await;
    }
    tracing::info!(namespace = ctx.namespace, "this replica leads");
    ctx.readiness.leading();
    ctx.metrics.set_leader(true);
    let stop = shutdown.child_token();
    let mut controllers = tokio::spawn(control(Arc::clone(&ctx), stop.clone()));
    let lost = tokio::select! {
        () = keep(&mut elector, shutdown) => Some(Ok(End::LeaseLost)),
        () = shutdown.cancelled() => None,
        _ = &mut controllers => Some(Err(ServeError::ControllersEnded)),
    };
    ctx.metrics.set_leader(false);
    if let Some(end) = lost {
        // No reconcile may outlive the lease.
        controllers.abort();
        if end.is_ok() {
            let _ = controllers.await;
        }
        ctx.readiness.standby();
        return end;
    }
    tracing::info!("the end was asked for; the controllers end");
    stop.cancel();
    if tokio::time::timeout(DRAIN, &mut controllers).await.is_err() {
        controllers.abort();
    }
    match tokio::time::timeout(RELEASE, elector.release(Timestamp::now())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the lease could not be released; it runs out by itself"),
        Err(_) => tracing::warn!("the lease could not be released in time; it runs out by itself"),
    }
    Ok(End::Asked)
}

/// Renews the lease; returns when it is lost.
async fn keep(elector: &mut Elector, shutdown: &CancellationToken) {
    loop {
        pause(shutdown).await;
        let Some(deadline) = elector.deadline() else { return };
        let look = elector.look(Instant::now(), Timestamp::now());
        match tokio::time::timeout_at(deadline.into(), look).await {
            Ok(Standing::Leading) => {}
            Ok(Standing::Standby | Standing::Blind | Standing::Lost) | Err(_) => return,
        }
    }
}

async fn pause(shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(RETRY_PERIOD) => {}
    }
}

/// Runs all controllers; they end together.
async fn control(ctx: Arc<Context>, stop: CancellationToken) {
    futures::join!(
        location::run(Arc::clone(&ctx), stop.clone()),
        policy::run(Arc::clone(&ctx), stop.clone()),
        run::run(Arc::clone(&ctx), stop.clone()),
        restore::run(Arc::clone(&ctx), stop.clone()),
        record::run(Arc::clone(&ctx), stop.clone()),
        retention::run(Arc::clone(&ctx), stop.clone()),
        maintenance::run(Arc::clone(&ctx), stop.clone()),
        totals::run(ctx, stop),
    );
}

//! Writes to the API server, each tried again until it succeeds or patience ends.

use std::{
    error::Error as StdError,
    future::Future,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, Client, Config,
    api::{Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use kubedr_api::{EventReason, EventSubject, event_for, names::field_manager};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::drive::Patience;

/// Time for one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiFailure {
    /// The API server's answer, or that there was none, with all its causes.
    #[error("{}", chain(.0))]
    Call(#[source] kube::Error),
    /// No answer in time.
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
    /// What is there belongs to something else.
    #[error("{0}")]
    Occupied(String),
}

impl ApiFailure {
    /// The HTTP status, if the API server answered.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Call(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }
}

fn chain(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}

/// The API server as this job uses it.
#[derive(Clone)]
pub struct KubeApi {
    client: Client,
    namespace: String,
}

impl KubeApi {
    /// The API server of the cluster that this pod runs in, or that the kubeconfig names.
    pub async fn connect(namespace: &str) -> Result<Self, String> {
        let mut config =
            Config::infer().await.map_err(|error| format!("no way to the API server: {error}"))?;
        config.connect_timeout = Some(CALL_TIMEOUT);
        config.read_timeout = Some(CALL_TIMEOUT);
        let client = Client::try_from(config)
            .map_err(|error| format!("no way to the API server: {}", chain(&error)))?;
        Ok(Self::new(client, namespace))
    }

    /// An API server behind this client.
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    /// The objects of one kind in the namespace.
    pub fn objects<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates the event of this run unless it is there.
    pub async fn event(
        &self,
        subject: &EventSubject,
        reason: EventReason,
        run: &str,
        message: &str,
    ) -> Result<(), ApiFailure> {
        let event = event_for(subject, reason, run, message, field_manager::JOB, Timestamp::now());
        match call(self.objects::<Event>().create(&PostParams::default(), &event)).await {
            Err(error) if error.code() == Some(409) => Ok(()),
            created => created.map(drop),
        }
    }
}

/// One call, with a time limit.
pub async fn call<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiFailure> {
    match timeout(CALL_TIMEOUT, request).await {
        Ok(answer) => answer.map_err(ApiFailure::Call),
        Err(_) => Err(ApiFailure::Timeout),
    }
}

/// What a write that others may have changed the object under is done with.
pub fn apply(patch: &Value) -> (PatchParams, Patch<&Value>) {
    apply_as(field_manager::JOB, patch)
}

/// The same for what has another writer.
pub fn apply_as<'a>(field_manager: &str, patch: &'a Value) -> (PatchParams, Patch<&'a Value>) {
    (PatchParams::apply(field_manager).force(), Patch::Apply(patch))
}

/// Tries `step` until it succeeds or patience ends. What it does may have happened even if it failed: it must be repeatable.
///
/// Every error is worth another try: rights and quotas, too, are mended while a job waits.
pub async fn persist<T, F, Fut>(what: &str, patience: Patience, mut step: F) -> Result<T, String>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, ApiFailure>>,
{
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let left = patience.limit().saturating_sub(begun.elapsed());
        let error = match timeout(left, step()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => ApiFailure::Timeout,
        };
        let pause_now = jittered(pause);
        if matches!(error, ApiFailure::Occupied(_)) || begun.elapsed() + pause_now >= patience.limit() {
            return Err(format!("{what} failed for {} s: {error}", begun.elapsed().as_secs()));
        }
        tracing::warn!(what, %error, "the API server did not take a report; trying again");
        tokio::time::sleep(pause_now).await;
        // A conflict means that somebody else got through: no reason to stand back.
        pause = if error.code() == Some(409) { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

/// Between half and all of the pause, so that jobs that failed together do not return together.
fn jittered(pause: Duration) -> Duration {
    let noise =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    pause / 2 + (pause / 2).mul_f64(f64::from(noise % 1000) / 1000.0)
}

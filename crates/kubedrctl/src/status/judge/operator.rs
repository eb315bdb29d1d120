//! Whether an operator serves the namespace.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::Deployment, coordination::v1::Lease};
use kube::ResourceExt;
use kubedr_api::names::LEASE;
use serde::Serialize;

use crate::status::render::ago;

/// The operator that leads renews its Lease every two seconds, and another takes it after fifteen. The rest is for clocks.
const LEASE_GRACE: SignedDuration = SignedDuration::from_mins(2);

/// What is the case while no operator serves.
const WITHOUT: &str = "backups go on by schedule, but nothing here is kept up to date";

/// Whether an operator serves the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OperatorState {
    /// It does.
    Ready,
    /// There is one, which does not run, or does not get to work.
    NotReady,
    /// There is none.
    Missing,
    /// Who asks may not know.
    Unknown,
}

/// Whether one serves, as far as its Deployments and its Lease may be seen, and what is wrong.
pub fn judge(
    deployments: Option<&[Deployment]>,
    lease: Option<&[Lease]>,
    namespace: &str,
    now: Timestamp,
) -> (OperatorState, Vec<String>) {
    let Some(deployments) = deployments else { return (OperatorState::Unknown, Vec::new()) };
    if deployments.is_empty() {
        let problem = format!(
            "no operator is installed in namespace `{namespace}`: {WITHOUT}; install the chart, or choose another `--namespace`"
        );
        return (OperatorState::Missing, vec![problem]);
    }
    let Some(deployment) = deployments.iter().find(|deployment| is_ready(deployment)) else {
        let problem = format!(
            "the operator does not run: {WITHOUT}; see `kubectl -n {namespace} describe pods -l app.kubernetes.io/component=operator`"
        );
        return (OperatorState::NotReady, vec![problem]);
    };
    let Some(idle) = lease.and_then(|lease| idle(lease, now)) else {
        return (OperatorState::Ready, Vec::new());
    };
    let problem = format!(
        "the operator's pods are ready, but none is at work, since {idle}: {WITHOUT}; see `kubectl -n {namespace} logs deployment/{}`",
        deployment.name_any()
    );
    (OperatorState::NotReady, vec![problem])
}

fn is_ready(deployment: &Deployment) -> bool {
    deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0) > 0
}

/// Why no operator leads, if none does.
fn idle(lease: &[Lease], now: Timestamp) -> Option<String> {
    let renewed = |lease: &Lease| Some(lease.spec.as_ref()?.renew_time.as_ref()?.0);
    match lease.iter().filter_map(renewed).max() {
        Some(time) if now.duration_since(time) < LEASE_GRACE => None,
        Some(time) => Some(format!(
            "the Lease `{LEASE}` was last renewed {} by the clock of this machine",
            ago(time, now)
        )),
        None => Some(format!("none has taken the Lease `{LEASE}`")),
    }
}

//! What the objects of a namespace say about its backups, and what is wrong.

mod location;
mod operator;
mod policy;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{apps::v1::Deployment, coordination::v1::Lease},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::api::DynamicObject;
use kubedr_api::ConditionType;
use serde::{Serialize, de::DeserializeOwned};

pub use location::{LocationState, LocationStatus};
pub use operator::OperatorState;
pub use policy::{PolicyState, PolicyStatus};

/// Within this the operator has looked at a new object.
const NEW: SignedDuration = SignedDuration::from_mins(1);

/// What was found in a namespace.
pub struct Facts {
    /// The namespace.
    pub namespace: String,
    /// Policies, as they are.
    pub policies: Vec<DynamicObject>,
    /// Locations, as they are.
    pub locations: Vec<DynamicObject>,
    /// Records, as they are.
    pub records: Vec<DynamicObject>,
    /// Deployments of the operator, if they may be seen.
    pub operator: Option<Vec<Deployment>>,
    /// Its Lease, one or none, if that may be seen.
    pub lease: Option<Vec<Lease>>,
}

/// How the backups of a namespace stand.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The namespace.
    pub namespace: String,
    /// When this was found out.
    pub time: Timestamp,
    /// Whether nothing is wrong.
    pub healthy: bool,
    /// The operator.
    pub operator: OperatorState,
    /// What is wrong with neither a policy nor a location.
    pub problems: Vec<String>,
    /// The policies, by name.
    pub policies: Vec<PolicyStatus>,
    /// The locations, by name.
    pub locations: Vec<LocationStatus>,
    /// Records, of whatever policy.
    pub records: usize,
}

/// How the backups stand, now.
pub fn judge(facts: &Facts, now: Timestamp) -> Status {
    let Facts { namespace, policies, locations, records, operator, lease } = facts;
    let mut policies: Vec<_> =
        policies.iter().map(|object| policy::judge(object, namespace, records, now)).collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let mut locations: Vec<_> =
        locations.iter().map(|object| location::judge(object, namespace, records, now)).collect();
    locations.sort_by(|a, b| a.name.cmp(&b.name));
    let (operator, mut problems) = operator::judge(operator.as_deref(), lease.as_deref(), namespace, now);
    if policies.is_empty() {
        problems.push(format!(
            "there is no policy in namespace `{namespace}`: nothing is backed up; make one, or choose another `--namespace`"
        ));
    }
    let all = policies.iter().map(|p| &p.problems).chain(locations.iter().map(|l| &l.problems));
    let healthy = problems.is_empty() && all.into_iter().all(Vec::is_empty);
    let (namespace, records) = (namespace.clone(), records.len());
    Status { namespace, time: now, healthy, operator, problems, policies, locations, records }
}

/// Why the condition `Ready` is not true. Of a new object nothing is said yet.
fn not_ready(conditions: &[Condition], object: &DynamicObject, now: Timestamp) -> Option<String> {
    match condition(conditions, ConditionType::Ready) {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(ready.message.clone()),
        None => {
            let created = object.metadata.creation_timestamp.as_ref()?.0;
            (now.duration_since(created) > NEW)
                .then(|| "the operator has not looked at it: look whether it runs".to_owned())
        }
    }
}

fn condition(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

fn count(records: &[DynamicObject], field: &str, name: &str) -> usize {
    records.iter().filter(|record| record.data["spec"][field] == name).count()
}

fn typed<K: DeserializeOwned>(object: &DynamicObject) -> Result<K, String> {
    let typed = serde_json::to_value(object).and_then(serde_json::from_value);
    typed.map_err(|error| format!("the object does not fit the schema: {error}; correct it or delete it"))
}

/// A time; KubeDR 0.x wrote free text, which is none.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

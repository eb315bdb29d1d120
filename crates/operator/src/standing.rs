//! The condition `Ready` of locations and policies: written when it has changed, with an event when that is bad news.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use kubedr_api::names::field_manager;
use kubedr_api::{ConditionReason, ConditionType, EventReason, EventSubject, set_condition};
use serde_json::json;

use crate::api_call::call;
use crate::context::Context;
use crate::occasion::short_hash;
use crate::report::{self, ReportError};

/// How an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Reason of the condition.
    pub reason: ConditionReason,
    /// Message of the condition.
    pub message: String,
}

/// Which fields of the status are the operator's beside the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// `observedGeneration` tells of what the operator did.
    Observed(Option<i64>),
    /// `observedGeneration` is the job's.
    OfTheJob,
}

/// The object whose condition is written.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The object.
    pub subject: EventSubject,
    /// Its generation.
    pub generation: Option<i64>,
    /// Its conditions so far.
    pub conditions: &'a [Condition],
    /// Its `observedGeneration` so far, and whose it is.
    pub observed: Generation,
}

/// Writes the condition if it differs from what is there. Bad news of a new kind come with an event `NotReady`, except
/// where a failed job has told of them already.
pub async fn write<K>(ctx: &Context, target: Target<'_>, standing: &Standing) -> Result<(), ReportError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let Target { subject, generation, conditions, observed } = target;
    // Conditions of other types are not ours to apply.
    let old: Vec<_> =
        conditions.iter().filter(|c| c.type_ == ConditionType::Ready.as_str()).cloned().collect();
    let mut new = old.clone();
    let now = Timestamp::now();
    let changed =
        set_condition(&mut new, ConditionType::Ready, standing.reason, &standing.message, generation, now);
    let up_to_date = match observed {
        Generation::Observed(observed) => observed == generation,
        Generation::OfTheJob => true,
    };
    if up_to_date && new == old {
        return Ok(());
    }
    if changed && is_news(standing.reason) {
        let before =
            old.first().map(|c| format!("{} {}", c.reason, c.last_transition_time.0)).unwrap_or_default();
        let generation = generation.unwrap_or_default().to_string();
        let occasion = short_hash(&[&subject.uid, &generation, &before, standing.reason.as_str()]);
        report::event(ctx, &subject, EventReason::NotReady, &occasion, &standing.message).await?;
    }
    let mut status = json!({ "conditions": new });
    if matches!(observed, Generation::Observed(_)) {
        status["observedGeneration"] = json!(generation);
    }
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": subject.name },
        "status": status,
    });
    let params = PatchParams::apply(field_manager::OPERATOR).force();
    let action = || format!("write the conditions of {} `{}`", subject.kind, subject.name);
    // What comes back may be an object that does not fit its type: that is what `Invalid` says.
    call(action, dynamic::<K>(ctx).patch_status(&subject.name, &params, &Patch::Apply(&patch))).await?;
    Ok(())
}

/// Says of an object that does not fit its type that it cannot be acted on.
pub async fn write_invalid<K>(ctx: &Context, subject: EventSubject, error: &str) -> Result<(), ReportError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let action = || format!("read {} `{}`", subject.kind, subject.name);
    let Some(object) = call(action, dynamic::<K>(ctx).get_opt(&subject.name)).await? else { return Ok(()) };
    let conditions = object.data.pointer("/status/conditions").cloned().unwrap_or_default();
    let conditions: Vec<Condition> = serde_json::from_value(conditions).unwrap_or_default();
    let standing = Standing {
        reason: ConditionReason::Invalid,
        message: format!("the object does not fit the schema: {error}; correct it or delete it"),
    };
    let generation = object.metadata.generation;
    let target = Target { subject, generation, conditions: &conditions, observed: Generation::OfTheJob };
    write::<K>(ctx, target, &standing).await
}

const fn is_news(reason: ConditionReason) -> bool {
    match reason {
        ConditionReason::LocationNotFound
        | ConditionReason::LocationNotReady
        | ConditionReason::LocationReadOnly
        | ConditionReason::CronJobRefused
        | ConditionReason::Invalid => true,
        ConditionReason::Initialized
        | ConditionReason::Initializing
        | ConditionReason::InitFailed
        | ConditionReason::Scheduled
        | ConditionReason::Suspended
        | ConditionReason::Reachable
        | ConditionReason::SnapshotUnreadable
        | ConditionReason::ValidationFailed
        | ConditionReason::NotValidated
        | ConditionReason::UpToDate
        | ConditionReason::RemovalsWithheld
        | ConditionReason::RecordNameTaken
        | ConditionReason::RecordsWithoutSnapshot
        | ConditionReason::Deleted
        | ConditionReason::Missing => false,
    }
}

fn dynamic<K>(ctx: &Context) -> Api<DynamicObject>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced_with(ctx.client.clone(), &ctx.namespace, &ApiResource::erase::<K>(&()))
}

//! Finalizers: that of records, which the operator sets and takes off, and those that KubeDR 0.x set. Nobody acts on the
//! latter any more, so an object with one could never be deleted.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kubedr_api::names::field_manager;
use serde_json::json;

use crate::api_call::{ApiError, call};
use crate::context::Context;

/// Takes this finalizer off the object, if it is there.
pub async fn remove<K>(ctx: &Context, metadata: &ObjectMeta, finalizer: &str) -> Result<(), ApiError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match without(metadata, finalizer) {
        Some(rest) => write::<K>(ctx, metadata, &rest, "remove", finalizer).await,
        None => Ok(()),
    }
}

/// Sets this finalizer on the object, unless it is there.
pub async fn add<K>(ctx: &Context, metadata: &ObjectMeta, finalizer: &str) -> Result<(), ApiError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    if has(metadata, finalizer) {
        return Ok(());
    }
    let all: Vec<_> = of(metadata).iter().map(String::as_str).chain([finalizer]).collect();
    write::<K>(ctx, metadata, &all, "add", finalizer).await
}

/// Whether the object has this finalizer.
pub fn has(metadata: &ObjectMeta, finalizer: &str) -> bool {
    of(metadata).iter().any(|known| known == finalizer)
}

fn of(metadata: &ObjectMeta) -> &[String] {
    metadata.finalizers.as_deref().unwrap_or_default()
}

async fn write<K>(
    ctx: &Context,
    metadata: &ObjectMeta,
    finalizers: &[&str],
    verb: &str,
    finalizer: &str,
) -> Result<(), ApiError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    let name = metadata.name.clone().unwrap_or_default();
    // With the resource version, so that a finalizer that somebody adds meanwhile is not lost.
    let patch =
        json!({ "metadata": { "finalizers": finalizers, "resourceVersion": metadata.resource_version } });
    let params =
        PatchParams { field_manager: Some(field_manager::OPERATOR.to_owned()), ..PatchParams::default() };
    let api: kube::Api<DynamicObject> =
        kube::Api::namespaced_with(ctx.client.clone(), &ctx.namespace, &ApiResource::erase::<K>(&()));
    let action = || format!("{verb} finalizer `{finalizer}` of `{name}`");
    match call(action, api.patch_metadata(&name, &params, &Patch::Merge(&patch))).await {
        // Gone with its finalizer, or changed: then the watch shows it again.
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

/// The other finalizers, or `None` if this one is not among them.
pub fn without<'a>(metadata: &'a ObjectMeta, unwanted: &str) -> Option<Vec<&'a str>> {
    let all = of(metadata);
    let rest: Vec<_> = all.iter().map(String::as_str).filter(|finalizer| *finalizer != unwanted).collect();
    (rest.len() < all.len()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unwanted_finalizer_goes() {
        let with = |finalizers: &[&str]| ObjectMeta {
            finalizers: Some(finalizers.iter().map(|finalizer| (*finalizer).to_owned()).collect()),
            ..ObjectMeta::default()
        };
        assert_eq!(without(&with(&["theirs", "other"]), "theirs"), Some(vec!["other"]));
        assert_eq!(without(&with(&["other"]), "theirs"), None);
    }
}

//! Whether the volume of a location can hold a repository, and from where.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kubedr_api::{AccessMode, MetadataBackupPolicy, OPTION_MASTER_NODE_LABEL};

/// From where a location's storage can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// From every node.
    EveryNode,
    /// From one node at a time: all jobs have to run on the same.
    OneNode,
}

/// How a location's storage stands, as far as the cluster knows. An S3 service can always be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Nothing is known to stand in the way.
    Usable(Reach),
    /// As before, but the node that had the volume is gone: another has to be found.
    NodeGone {
        /// Its name.
        node: String,
    },
    /// A job cannot use it, for this reason.
    Unusable(String),
}

/// The label of master nodes that all policies with this destination name; `None` if there are none or they differ, and then the
/// usual ones count.
pub fn master_label<'a>(
    policies: impl Iterator<Item = &'a MetadataBackupPolicy>,
    location: &str,
) -> Option<&'a str> {
    let of_it = policies.filter(|policy| policy.spec.destination == location);
    let mut labels =
        of_it.map(|policy| policy.spec.options.get(OPTION_MASTER_NODE_LABEL).map(String::as_str));
    let first = labels.next()??;
    labels.all(|label| label == Some(first)).then_some(first)
}

/// From where the claim of this name can be mounted, or why it cannot hold a repository and what to do.
pub fn reach(name: &str, claim: Option<&PersistentVolumeClaim>, access: AccessMode) -> Result<Reach, String> {
    let Some(claim) = claim else {
        return Err(format!(
            "there is no PersistentVolumeClaim `{name}` in this namespace; create it or correct `spec.volume.claimName`"
        ));
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!(
            "PersistentVolumeClaim `{name}` is being deleted, and the repository with it; name another in \
             `spec.volume.claimName`"
        ));
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        return Err(format!(
            "PersistentVolumeClaim `{name}` has lost its volume (phase `Lost`); bring the volume back or name another claim \
             in `spec.volume.claimName`"
        ));
    }
    let spec = claim.spec.clone().unwrap_or_default();
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(format!(
            "PersistentVolumeClaim `{name}` has `volumeMode: Block`, and a repository needs a file system; name another in \
             `spec.volume.claimName`"
        ));
    }
    let modes = spec.access_modes.unwrap_or_default();
    let has = |mode: &str| modes.iter().any(|known| known == mode);
    if has("ReadWriteMany") {
        return Ok(Reach::EveryNode);
    }
    if has("ReadWriteOnce") || has("ReadWriteOncePod") {
        return Ok(Reach::OneNode);
    }
    match access {
        AccessMode::ReadOnly => Ok(Reach::EveryNode),
        AccessMode::ReadWrite => Err(format!(
            "PersistentVolumeClaim `{name}` can only be read (`accessModes: {}`); name another in `spec.volume.claimName`, or \
             set `spec.accessMode: ReadOnly`",
            modes.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(yaml: &str, access: AccessMode) -> Result<Reach, String> {
        reach("v", Some(&serde_norway::from_str(yaml).unwrap()), access)
    }

    fn with_mode(mode: &str, access: AccessMode) -> Result<Reach, String> {
        of(&format!("{{metadata: {{name: v}}, spec: {{accessModes: [{mode}]}}}}"), access)
    }

    #[test]
    fn the_access_modes_say_from_where_a_claim_can_be_mounted() {
        for (modes, reach) in [
            ("ReadWriteMany", Reach::EveryNode),
            ("ReadWriteOnce, ReadWriteMany", Reach::EveryNode),
            ("ReadWriteOnce", Reach::OneNode),
            ("ReadWriteOncePod", Reach::OneNode),
        ] {
            assert_eq!(with_mode(modes, AccessMode::ReadWrite), Ok(reach), "{modes}");
        }
        assert_eq!(with_mode("ReadOnlyMany", AccessMode::ReadOnly), Ok(Reach::EveryNode));
    }

    #[test]
    fn a_claim_that_cannot_hold_a_repository_is_named_with_what_to_do() {
        let refused = |yaml| of(yaml, AccessMode::ReadWrite).unwrap_err();
        for (message, part) in [
            (reach("v", None, AccessMode::ReadWrite).unwrap_err(), "no PersistentVolumeClaim `v`"),
            (with_mode("ReadOnlyMany", AccessMode::ReadWrite).unwrap_err(), "accessMode: ReadOnly"),
            (refused("{metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}}"), "being deleted"),
            (refused("{metadata: {}, status: {phase: Lost}}"), "lost its volume"),
            (
                refused("{metadata: {}, spec: {accessModes: [ReadWriteMany], volumeMode: Block}}"),
                "file system",
            ),
        ] {
            assert!(message.contains(part) && message.contains("spec.volume.claimName"), "{message}");
        }
    }

    #[test]
    fn a_volume_goes_where_the_policies_of_its_location_look_for_masters_if_they_agree() {
        let policy = |destination: &str, label: Option<&str>| -> MetadataBackupPolicy {
            let options = label.map(|label| json!({ OPTION_MASTER_NODE_LABEL: label })).unwrap_or(json!({}));
            let spec = json!({"destination": destination, "schedule": "@daily", "options": options});
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
        };
        let other = policy("other", None);
        for (labels, expected) in [
            (vec![], None),
            (vec![None], None),
            (vec![Some("own")], Some("own")),
            (vec![Some("own"), Some("own")], Some("own")),
            (vec![Some("own"), Some("another")], None),
            (vec![Some("own"), None], None),
        ] {
            let all: Vec<_> = labels.iter().map(|label| policy("disk", *label)).collect();
            assert_eq!(master_label(all.iter().chain([&other]), "disk"), expected, "{labels:?}");
        }
    }
}

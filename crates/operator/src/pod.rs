//! What the pods of init and backup jobs have in common.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, EnvVarSource, ObjectFieldSelector, PodSpec, SeccompProfile,
    SecretKeySelector, SecurityContext,
};
use kubedr_api::task::{self, Variables};

use crate::destination::Destination;
use crate::job_settings::JobSettings;
use crate::placement;

/// Name of the container that does the work.
pub const CONTAINER: &str = "backup-job";
/// Level of the job's log.
const LOG_LEVEL: &str = "KUBEDR_LOG_LEVEL";
/// From SIGTERM to SIGKILL. The job needs a moment to stop; what it had not committed is no backup anyway.
const GRACE_SECONDS: i64 = 10;

/// Who the process in the pod is, and what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges<'a> {
    /// A user of no account, without capabilities.
    None,
    /// User 0, whose files the certificates are, with these capabilities and no others.
    Root(&'a [String]),
}

/// A container that runs this subcommand of the job with these variables and what leads to the repository.
#[must_use]
pub fn container(
    subcommand: &str,
    variables: Variables,
    destination: &Destination,
    privileges: Privileges<'_>,
    settings: &JobSettings,
) -> Container {
    // Whoever wrote a file of a volume's repository, the next job has to be able to replace it: they all are one user.
    let privileges = match (privileges, &destination.claim) {
        (Privileges::None, Some(_)) => Privileges::Root(&[]),
        (privileges, _) => privileges,
    };
    let mounts: Vec<_> = destination.volumes().into_iter().map(|(_, mount)| mount).collect();
    Container {
        name: CONTAINER.to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        args: Some(vec![subcommand.to_owned()]),
        env: Some(environment(variables, &destination.credentials, settings)),
        volume_mounts: Some(mounts).filter(|mounts| !mounts.is_empty()),
        resources: Some(settings.resources.clone()),
        security_context: Some(security_context(privileges)),
        // The job writes its error to the termination log; what ends before it can (a wrong flag, a panic) is on stderr.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// A pod of this one container, which runs once.
#[must_use]
pub fn pod_spec(container: Container, destination: &Destination, settings: &JobSettings) -> PodSpec {
    let volumes: Vec<_> = destination.volumes().into_iter().map(|(volume, _)| volume).collect();
    let node = destination.node.as_deref();
    PodSpec {
        volumes: Some(volumes).filter(|volumes| !volumes.is_empty()),
        affinity: node.map(placement::on_node),
        tolerations: node.map(|_| placement::tolerations()),
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        service_account_name: Some(settings.service_account_name.clone()),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        image_pull_secrets: Some(settings.image_pull_secrets.clone()).filter(|secrets| !secrets.is_empty()),
        priority_class_name: settings.priority_class_name.clone(),
        ..PodSpec::default()
    }
}

fn environment(variables: Variables, credentials: &str, settings: &JobSettings) -> Vec<EnvVar> {
    let plain = variables.into_iter().map(|(name, value)| (name.to_owned(), value));
    let log = [(task::env::LOG_FORMAT, "json"), (LOG_LEVEL, settings.log_level.as_str())];
    let log = log.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut all: Vec<_> = plain.chain(log).map(|(name, value)| plain_variable(name, value)).collect();
    all.extend(task::pod_env().map(|(name, path)| from_pod(name, path)));
    all.extend(task::secret_env().map(|(name, key)| from_secret(name, credentials, key)));
    for extra in &settings.env {
        // A job's own variables are not the admin's to change here: they come from policy and location.
        if all.iter().all(|known| known.name != extra.name) {
            all.push(plain_variable(extra.name.clone(), extra.value.clone()));
        }
    }
    all
}

fn plain_variable(name: String, value: String) -> EnvVar {
    EnvVar { name, value: Some(value), value_from: None }
}

fn from_pod(name: &str, field_path: String) -> EnvVar {
    let field = ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

/// Optional, so that a pod starts without its Secret and the job can say what is missing.
fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    let key = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: Some(true) };
    let source = EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

fn security_context(privileges: Privileges<'_>) -> SecurityContext {
    /// The user `nonroot` of the distroless images.
    const NONROOT: i64 = 65532;
    let (user, add) = match privileges {
        Privileges::None => (NONROOT, &[][..]),
        Privileges::Root(capabilities) => (0, capabilities),
    };
    SecurityContext {
        run_as_user: Some(user),
        run_as_group: Some(user),
        run_as_non_root: Some(user != 0),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            add: Some(add.to_vec()).filter(|add| !add.is_empty()),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..SecurityContext::default()
    }
}

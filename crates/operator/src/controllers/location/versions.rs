//! Which versions of a Secret and a `ConfigMap` a location is initialised with. Of both only the metadata are known.

use futures::FutureExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use kubedr_api::{BackupLocationSpec, CaCertKey, CaCertSource};

use super::Guarded;

/// The versions of all objects that a location may name.
pub struct Versions {
    /// Metadata of the Secrets.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// Metadata of the `ConfigMap`s.
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
}

impl Versions {
    /// Whether they have been listed.
    pub fn are_known(&self) -> bool {
        // Asked and never awaited: of several reconciles that wait for a store, kube wakes only the one that asked last.
        self.secrets.wait_until_ready().now_or_never().is_some()
            && self.config_maps.wait_until_ready().now_or_never().is_some()
    }

    /// The version of the location's Secret and, after a `+`, of the object with its certificates. What does not exist has an empty
    /// one.
    pub fn of(&self, namespace: &str, spec: &BackupLocationSpec) -> String {
        let mut all = version(&self.secrets, namespace, &spec.credentials);
        if let Some(CaCertSource { secret, config_map }) = &spec.ca_cert {
            let secret = secret.as_ref().map(|key| version(&self.secrets, namespace, &key.name));
            let config_map = config_map.as_ref().map(|key| version(&self.config_maps, namespace, &key.name));
            all.push('+');
            all.extend(secret.or(config_map));
        }
        all
    }
}

fn version<K>(all: &Store<PartialObjectMeta<K>>, namespace: &str, name: &str) -> String
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + 'static,
{
    let object = all.get(&ObjectRef::new(name).within(namespace));
    object.and_then(|object| object.resource_version()).unwrap_or_default()
}

/// An object that a location may name.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// A Secret of this name.
    Secret(&'a str),
    /// A `ConfigMap` of this name.
    ConfigMap(&'a str),
}

impl Named<'_> {
    fn is_in(self, spec: &BackupLocationSpec) -> bool {
        let is = |key: Option<&CaCertKey>, name: &str| key.is_some_and(|key| key.name == name);
        let ca = spec.ca_cert.as_ref();
        match self {
            Self::Secret(name) => spec.credentials == name || is(ca.and_then(|ca| ca.secret.as_ref()), name),
            Self::ConfigMap(name) => is(ca.and_then(|ca| ca.config_map.as_ref()), name),
        }
    }
}

/// The locations that name this object.
pub fn users_of(named: Named<'_>, locations: &Store<Guarded>) -> Vec<ObjectRef<Guarded>> {
    let names_it = |guarded: &Guarded| guarded.0.as_ref().is_ok_and(|location| named.is_in(&location.spec));
    let users = locations.state().into_iter().filter(|location| names_it(location));
    users.map(|location| ObjectRef::from_obj(&*location)).collect()
}

#[cfg(test)]
mod tests {
    use kube::runtime::reflector::store;
    use kube::runtime::watcher;

    use super::*;

    fn object<K>(name: &str, version: &str) -> PartialObjectMeta<K> {
        serde_norway::from_str(&format!(
            "{{metadata: {{name: {name}, namespace: ns, resourceVersion: '{version}'}}}}"
        ))
        .unwrap()
    }

    fn store_of<K>(name: &str, version: &str) -> Store<PartialObjectMeta<K>>
    where
        K: Resource<DynamicType = ()> + Clone + 'static,
    {
        let (all, mut writer) = store();
        writer.apply_watcher_event(&watcher::Event::Apply(object(name, version)));
        all
    }

    fn spec(ca_cert: &str) -> BackupLocationSpec {
        serde_norway::from_str(&format!(
            "{{url: 'https://h', bucketName: b, credentials: both, caCert: {ca_cert}}}"
        ))
        .unwrap()
    }

    #[test]
    fn a_location_is_initialised_anew_when_its_secret_or_its_authority_changes() {
        let versions = Versions { secrets: store_of("both", "5"), config_maps: store_of("both", "7") };
        for (ca_cert, version) in [
            ("null", "5"),
            ("{secret: {name: both}}", "5+5"),
            ("{configMap: {name: both}}", "5+7"),
            ("{configMap: {name: none}}", "5+"),
        ] {
            assert_eq!(versions.of("ns", &spec(ca_cert)), version, "{ca_cert}");
        }
    }

    #[test]
    fn a_name_counts_only_for_its_kind() {
        let from_map = spec("{configMap: {name: ca}}");
        assert!(Named::ConfigMap("ca").is_in(&from_map) && Named::Secret("both").is_in(&from_map));
        assert!(!Named::Secret("ca").is_in(&from_map) && !Named::ConfigMap("both").is_in(&from_map));
        assert!(Named::Secret("ca").is_in(&spec("{secret: {name: ca}}")));
    }
}

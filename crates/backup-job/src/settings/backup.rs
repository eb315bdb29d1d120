//! What is backed up, and what the snapshot is called.

use super::{SecretSource, Storage, file, machine_name, non_empty};
use crate::{
    BackupSettings, CertificatesDir, EtcdSettings, Failure, Locking,
    args::{BackupArgs, Secrets},
};

impl BackupSettings {
    pub(crate) fn new(args: &BackupArgs, secrets: Secrets, locking: Locking) -> Result<Self, Failure> {
        let in_cluster = non_empty(args.policy.as_deref()).is_some();
        let namespace = non_empty(args.run.namespace.as_deref()).filter(|_| in_cluster);
        let source = SecretSource::new(args.storage.credentials.as_deref(), namespace);
        let storage = Storage::new(&args.storage, secrets, source)?;
        let etcd = EtcdSettings::new(args, SecretSource::new(args.etcd_credentials.as_deref(), namespace))?;
        let certificates = file(args.certs_dir.as_ref());
        Ok(Self {
            storage,
            etcd,
            certificates: certificates.map(|dir| CertificatesDir { dir, root: args.host_root.clone() }),
            host: non_empty(args.host.as_deref()).map_or_else(machine_name, str::to_owned),
            tags: tags(args),
            locking,
        })
    }
}

fn tags(args: &BackupArgs) -> Vec<String> {
    use kubedr_api::names::snapshot::{TAG_CLUSTER, TAG_LOCATION, TAG_NAMESPACE, TAG_POLICY};
    let known = [
        (TAG_CLUSTER, &args.run.cluster),
        (TAG_NAMESPACE, &args.run.namespace),
        (TAG_POLICY, &args.policy),
        (TAG_LOCATION, &args.run.location),
    ];
    let tag =
        |(name, value): (&str, &Option<String>)| non_empty(value.as_deref()).map(|v| format!("{name}={v}"));
    known.into_iter().filter_map(tag).collect()
}

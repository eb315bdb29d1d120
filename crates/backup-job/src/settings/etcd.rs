//! How etcd is reached.

use std::path::PathBuf;

use kubedr_api::names::etcd_secret;
use kubedr_etcd::{ClientFiles, CredentialFiles, Credentials, Endpoints};

use super::{SecretSource, file, missing_key};
use crate::{EtcdSettings, Failure, args::BackupArgs};

impl EtcdSettings {
    pub(super) fn new(args: &BackupArgs, source: SecretSource<'_>) -> Result<Self, Failure> {
        let endpoints: Endpoints = args.etcd_endpoints.parse()?;
        if !endpoints.need_tls() {
            return Ok(Self { endpoints, credentials: None });
        }
        let [ca, cert, key] =
            [&args.etcd_cacert, &args.etcd_cert, &args.etcd_key].map(|path| file(path.as_ref()));
        if let SecretSource::Secret { name, namespace } = source {
            // A Secret that is mounted as optional and is not there leaves an empty directory.
            let mounted = [(&ca, etcd_secret::CA), (&cert, etcd_secret::CERT), (&key, etcd_secret::KEY)];
            let absent = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| !path.exists());
            if let Some((_, key)) = mounted.into_iter().find(|(path, _)| absent(path)) {
                return Err(Failure::Configuration(missing_key(name, namespace, key)));
            }
        }
        let Some(ca) = ca else { return Ok(Self { endpoints, credentials: None }) };
        let client = match (cert, key) {
            (Some(cert), Some(key)) => Some(ClientFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(half("--etcd-cert", "--etcd-key")),
            (None, Some(_)) => return Err(half("--etcd-key", "--etcd-cert")),
        };
        let credentials = Credentials::read(&CredentialFiles { ca, client })?;
        Ok(Self { endpoints, credentials: Some(credentials) })
    }
}

fn half(given: &str, lacking: &str) -> Failure {
    Failure::Configuration(format!(
        "`{given}` is given without `{lacking}`: a certificate and its key go together"
    ))
}

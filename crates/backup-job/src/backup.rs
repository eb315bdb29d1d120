//! One backup: etcd and certificates, as one snapshot.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kubedr_api::names::snapshot;
use kubedr_etcd::{Credentials, Endpoints, Snapshot};
use kubedr_repo::{BackupRequest, Source};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{Archive, Failure, Storage};

/// What to back up, and to where.
#[derive(Debug)]
pub struct BackupSettings {
    /// The repository.
    pub storage: Storage,
    /// etcd.
    pub etcd: EtcdSettings,
    /// The certificates, if they are backed up.
    pub certificates: Option<CertificatesDir>,
    /// Host of the snapshot.
    pub host: String,
    /// Tags of the snapshot.
    pub tags: Vec<String>,
}

/// How to reach etcd.
#[derive(Debug)]
pub struct EtcdSettings {
    /// Its members.
    pub endpoints: Endpoints,
    /// What makes them trust us, if they use TLS.
    pub credentials: Option<Credentials>,
}

/// A directory of the node.
#[derive(Debug)]
pub struct CertificatesDir {
    /// Its path on the node.
    pub dir: PathBuf,
    /// Where the node's file system is mounted.
    pub root: PathBuf,
}

/// A backup that is stored, read back and found equal. Printed as the job's summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupDone {
    /// The repository, without secrets.
    pub repository: String,
    /// The repository's own id.
    pub repository_id: String,
    /// Id of the snapshot, in full.
    pub snapshot_id: String,
    /// When the backup began.
    pub time: Timestamp,
    /// Files that the snapshot before did not have.
    pub files_new: u64,
    /// Files that the snapshot before had.
    pub files_changed: u64,
    /// Bytes newly stored, before compression.
    pub data_added: u64,
    /// Bytes newly stored, after compression and encryption.
    pub data_added_packed: u64,
    /// Bytes read.
    pub total_bytes_processed: u64,
    /// Whether the certificates are in it.
    pub certificates: bool,
    /// Member of etcd that gave the snapshot.
    pub etcd_endpoint: String,
    /// Version of etcd.
    pub etcd_version: String,
    /// The etcd snapshot has this revision or a later one.
    pub etcd_revision_at_least: i64,
    /// How long it took, in seconds.
    pub duration_seconds: f64,
}

impl BackupDone {
    /// How long the backup took.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::try_from_secs_f64(self.duration_seconds).unwrap_or_default()
    }
}

/// Takes the backup. When this returns `Ok`, the snapshot is stored, and every byte of it was read back and compared; when it
/// does not, there is no new snapshot.
///
/// What fails fast comes first: the certificates are looked at, then the repository is opened, and only then is etcd asked for
/// a snapshot, which it holds open for as long as it is read.
pub async fn back_up(settings: BackupSettings) -> Result<BackupDone, Failure> {
    let (time, begun) = (Timestamp::now(), Instant::now());
    let BackupSettings { storage, etcd, certificates, host, tags } = settings;
    let archive = match certificates {
        Some(CertificatesDir { dir, root }) => Some(blocking(move || Ok(Archive::plan(&root, &dir)?)).await?),
        None => None,
    };
    let repository = blocking(move || storage.open()).await?;
    let Snapshot { endpoint, size, etcd_version, revision_at_least, reader } =
        Box::pin(Snapshot::open(&etcd.endpoints, etcd.credentials.as_ref())).await?;
    let mut sources =
        vec![Source { path: snapshot::ETCD.to_owned(), size, mode: 0o600, reader: Box::new(reader) }];
    let with_certificates = archive.is_some();
    if let Some(archive) = archive {
        let size = archive.size();
        let reader = Box::new(archive.into_reader());
        sources.push(Source { path: snapshot::CERTIFICATES.to_owned(), size, mode: 0o600, reader });
    }
    let request = BackupRequest { time, host, tags, path: snapshot::ROOT.to_owned(), sources };
    let (repository, backup) = blocking(move || {
        let backup = repository.backup(request)?;
        Ok((repository, backup))
    })
    .await?;
    Ok(BackupDone {
        repository: repository.url().to_owned(),
        repository_id: repository.id().to_owned(),
        snapshot_id: backup.snapshot_id.to_string(),
        time,
        files_new: backup.files_new,
        files_changed: backup.files_changed,
        data_added: backup.data_added,
        data_added_packed: backup.data_added_packed,
        total_bytes_processed: backup.total_bytes_processed,
        certificates: with_certificates,
        etcd_endpoint: endpoint.to_string(),
        etcd_version,
        etcd_revision_at_least: revision_at_least,
        duration_seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Runs what blocks outside the runtime's own threads. A panic there is a failure, not the end of the process.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Failure::Unexpected(format!("the work ended abnormally: {error}"))),
    }
}

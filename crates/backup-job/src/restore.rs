//! From a snapshot to files.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use kubedr_repo::{Repository, Restored, Snapshot};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{Failure, Storage, backup::blocking};

/// Length of the SHA-256 that etcd puts after the database.
const HASH_LEN: u64 = 32;

/// What was restored. Printed as the job's summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreDone {
    /// Id of the snapshot, in full.
    pub snapshot_id: String,
    /// When the backup was taken.
    pub time: Timestamp,
    /// Its host.
    pub host: String,
    /// Its tags: whose backup it is.
    pub tags: Vec<String>,
    /// The etcd snapshot, whose hash was found right.
    pub etcd_snapshot: PathBuf,
    /// Directory with the certificates, if the backup has any.
    pub certificates: Option<PathBuf>,
    /// Files of the snapshot.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Writes the snapshot's files to `target/data`, the certificates both as they are in the snapshot and unpacked, and checks
/// the hash that etcd put after the database.
pub async fn restore(
    storage: Storage,
    target: PathBuf,
    snapshot: String,
    tags: Vec<String>,
) -> Result<RestoreDone, Failure> {
    blocking(move || {
        let data = target.join("data");
        if data.symlink_metadata().is_ok() {
            return Err(Failure::Configuration(format!(
                "`{}` exists: nothing is overwritten; move it away or give another `--target`",
                data.display()
            )));
        }
        let repository = storage.open()?;
        let Snapshot { id, time, host, tags, .. } = choose(&repository, &snapshot, &tags)?;
        tracing::info!(snapshot = %id, %time, host, ?tags, "restoring");
        let Restored { snapshot_id, files, bytes, owner_not_set } =
            repository.restore(id.as_str(), &target)?;
        if owner_not_set > 0 {
            tracing::warn!(entries = owner_not_set, "owners are not restored: only root can give files away");
        }
        let etcd_snapshot = data.join("etcd-snapshot.db");
        check_hash(&etcd_snapshot)?;
        Ok(RestoreDone {
            snapshot_id: snapshot_id.to_string(),
            time,
            host,
            tags,
            etcd_snapshot,
            certificates: certificates(&data)?,
            files,
            bytes,
        })
    })
    .await
}

/// The snapshot of this name; of several that `latest` could mean, those with all the tags count.
fn choose(repository: &Repository, name: &str, tags: &[String]) -> Result<Snapshot, Failure> {
    if tags.is_empty() || name != "latest" {
        let found = repository.snapshot(name)?;
        return match tags.iter().find(|tag| !found.tags.contains(tag)) {
            None => Ok(found),
            Some(tag) => Err(Failure::Configuration(format!("snapshot `{name}` has no tag `{tag}`"))),
        };
    }
    let fits = |snapshot: &Snapshot| tags.iter().all(|tag| snapshot.tags.contains(tag));
    repository.snapshots()?.into_iter().rfind(fits).ok_or_else(|| {
        Failure::Configuration(format!(
            "no snapshot in `{}` has the tags `{}`",
            repository.url(),
            tags.join("`, `")
        ))
    })
}

/// Compares the database with the SHA-256 behind it.
fn check_hash(path: &Path) -> Result<(), Failure> {
    let outcome = hash_is_right(path).map_err(|cause| {
        Failure::Repository(format!("cannot read the restored `{}`: {cause}", path.display()))
    })?;
    if outcome {
        return Ok(());
    }
    Err(Failure::Repository(format!(
        "`{}` is restored as it was stored, but the hash at its end is not that of its content: choose another snapshot",
        path.display()
    )))
}

fn hash_is_right(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let Some(database) = file.metadata()?.len().checked_sub(HASH_LEN) else { return Ok(false) };
    let mut hash = Sha256::new();
    let mut reader = BufReader::with_capacity(1 << 20, &mut file).take(database);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let mut stored = Vec::new();
    reader.into_inner().read_to_end(&mut stored)?;
    Ok(hash.finalize().as_slice() == stored)
}

/// The directory with the certificates: unpacked from the archive, or as KubeDR 0.x stored it.
fn certificates(data: &Path) -> Result<Option<PathBuf>, Failure> {
    let (archive, dir) = (data.join("certificates.tar"), data.join("certificates"));
    if archive.exists() {
        let failed = |cause: io::Error| {
            Failure::Repository(format!(
                "cannot unpack `{}` to `{}`: {cause}",
                archive.display(),
                dir.display()
            ))
        };
        fs::create_dir(&dir).map_err(failed)?;
        let mut reader = tar::Archive::new(BufReader::new(File::open(&archive).map_err(failed)?));
        reader.set_preserve_permissions(true);
        reader.set_preserve_mtime(true);
        reader.set_preserve_ownerships(is_root());
        reader.unpack(&dir).map_err(failed)?;
    }
    Ok(dir.exists().then_some(dir))
}

/// Whether this process may give files away.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_at_the_end_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd-snapshot.db");
        let mut content = vec![7; 200_000];
        let hash = Sha256::digest(&content);
        content.extend_from_slice(&hash);
        fs::write(&path, &content).unwrap();
        check_hash(&path).unwrap();
        content[100] = 8;
        fs::write(&path, &content).unwrap();
        assert_eq!(check_hash(&path).unwrap_err().exit_code(), 4);
        fs::write(&path, "short").unwrap();
        assert!(check_hash(&path).unwrap_err().to_string().contains("choose another snapshot"));
    }
}

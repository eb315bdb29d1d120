//! From a snapshot to files.

mod unpack;

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufReader, ErrorKind, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use kubedr_repo::{LockMode, Repository, Restored, Snapshot};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{Failure, Locking, Storage, backup::blocking};
use unpack::unpack;

/// Length of the SHA-256 that etcd puts after the database.
const HASH_LEN: u64 = 32;
/// Where the data stands below the target until it is complete and its hash was found right.
const STAGING: &str = ".kubedr-restore";
/// Where data that is replaced stands until it is removed.
const REPLACED: &str = ".kubedr-replaced";
/// Names of files that a warning lists; the log has all.
const NAMED: usize = 10;

/// What to restore, and to where.
#[derive(Debug)]
pub struct RestoreSettings {
    /// The repository.
    pub storage: Storage,
    /// The repository's own id, if it must be this one.
    pub repository_id: Option<String>,
    /// Snapshot: its id, a beginning of it, or `latest`.
    pub snapshot: String,
    /// Tags that the snapshot must have.
    pub tags: Vec<String>,
    /// Directory that gets `data`.
    pub target: PathBuf,
    /// What becomes of a `data` that is there.
    pub existing: Existing,
    /// How the repository is locked.
    pub locking: Locking,
}

/// What becomes of a `data` that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// The restore is refused.
    Refuse,
    /// It is removed once the new one is complete.
    Replace,
}

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
    /// Files that keep another owner or mode than they had.
    pub metadata_not_set: Vec<PathBuf>,
}

impl RestoreDone {
    /// What to know of a restore that succeeded; empty if there is nothing.
    #[must_use]
    pub fn warning(&self) -> String {
        let all = &self.metadata_not_set;
        if all.is_empty() {
            return String::new();
        }
        let names: Vec<_> = all.iter().take(NAMED).map(|path| format!("`{}`", path.display())).collect();
        let more = if all.len() > NAMED { format!(" and {} more", all.len() - NAMED) } else { String::new() };
        format!(
            "the target does not take owner or mode of {}{more}: set them when you copy the files (`tar -tv` of the backup's \
             certificates.tar shows what they were)",
            names.join(", ")
        )
    }
}

/// Writes the snapshot's files to `target/data`, the certificates unpacked to `target/data/certificates`.
///
/// `data` gets its name only when everything is on disk and the hash that etcd put after the database was found right; what was there
/// under that name is kept until then. What an interrupted restore left is removed by the next one.
pub async fn restore(settings: RestoreSettings) -> Result<RestoreDone, Failure> {
    let RestoreSettings { storage, repository_id, snapshot, tags, target, existing, locking } = settings;
    let data = target.join("data");
    let repository = blocking(move || {
        refuse_existing(existing, &data)?;
        let repository = storage.open()?;
        if let Some(id) = repository_id.filter(|id| id != repository.id()) {
            return Err(Failure::Configuration(format!(
                "the repository at `{}` is another one than the backup was stored in ({} instead of {id}): correct the location's \
                 URL, bucket or prefix",
                repository.url(),
                repository.id()
            )));
        }
        Ok(Arc::new(repository))
    })
    .await?;
    let locked = locking.take(&repository, LockMode::Shared).await?;
    let held = locked.repository.clone();
    let done = blocking(move || bring_back(&held, &snapshot, &tags, &target, existing)).await;
    locked.release().await;
    done
}

fn bring_back(
    repository: &Repository,
    snapshot: &str,
    tags: &[String],
    target: &Path,
    existing: Existing,
) -> Result<RestoreDone, Failure> {
    let data = target.join("data");
    let Snapshot { id, time, host, tags, .. } = choose(repository, snapshot, tags)?;
    tracing::info!(snapshot = %id, %time, host, ?tags, "restoring");
    let staging = target.join(STAGING);
    let _alone = alone(target)?;
    remove(&staging)?;
    let outcome = fill(repository, id.as_str(), &staging).and_then(|filled| {
        // Somebody else may have put it there since the first look.
        refuse_existing(existing, &data)?;
        put_in_place(&staging.join("data"), &data, &target.join(REPLACED)).map(|()| filled)
    });
    if let Err(error) = remove(&staging) {
        tracing::warn!(%error, "what the restore needed in between could not be cleared away");
    }
    let Filled { restored: Restored { snapshot_id, files, bytes, mut metadata_not_set }, certificates, kept } =
        outcome?;
    metadata_not_set.extend(kept);
    let final_path =
        |path: PathBuf| path.strip_prefix(&staging).map(|below| target.join(below)).unwrap_or(path);
    let done = RestoreDone {
        snapshot_id: snapshot_id.to_string(),
        time,
        host,
        tags,
        etcd_snapshot: data.join("etcd-snapshot.db"),
        certificates: certificates.map(final_path),
        files,
        bytes,
        metadata_not_set: metadata_not_set.into_iter().map(final_path).collect(),
    };
    if !done.metadata_not_set.is_empty() {
        tracing::warn!(files = ?done.metadata_not_set, "the target does not take owner or mode of these files");
    }
    Ok(done)
}

/// What stands in the staging directory.
struct Filled {
    restored: Restored,
    certificates: Option<PathBuf>,
    /// Unpacked files that keep another owner or mode than they had.
    kept: Vec<PathBuf>,
}

fn fill(repository: &Repository, snapshot: &str, staging: &Path) -> Result<Filled, Failure> {
    let restored = repository.restore(snapshot, staging)?;
    let data = staging.join("data");
    check_hash(&data.join("etcd-snapshot.db"))?;
    let (archive, certificates) = (data.join("certificates.tar"), data.join("certificates"));
    let kept = if archive.exists() {
        let kept = unpack(&archive, &certificates).map_err(|error| written(&error.path, &error.cause))?;
        fs::remove_file(&archive).map_err(|cause| written(&archive, &cause))?;
        kept
    } else {
        Vec::new()
    };
    sync(&data)?;
    Ok(Filled { restored, certificates: certificates.exists().then_some(certificates), kept })
}

/// Keeps other restores away from the target for as long as the result lives, on file systems that can.
fn alone(target: &Path) -> Result<File, Failure> {
    fs::create_dir_all(target).map_err(|cause| written(target, &cause))?;
    let directory = File::open(target).map_err(|cause| written(target, &cause))?;
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Failure::Configuration(format!(
                "another restore writes to `{}`: wait until it has ended, then begin this one anew, or give another target",
                target.display()
            )));
        }
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, "the target cannot be locked; nothing else may restore to it now");
        }
    }
    Ok(directory)
}

fn refuse_existing(existing: Existing, data: &Path) -> Result<(), Failure> {
    if existing == Existing::Replace || data.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::Configuration(format!(
        "`{}` exists: nothing is overwritten; move it away, give another target, or allow it (`--overwrite`, \
         `spec.overwrite: true`)",
        data.display()
    )))
}

/// Gives the new data its name; what has it stands aside for that moment and is removed afterwards. Once the new data has its name
/// the restore is done: what goes wrong then is a warning.
fn put_in_place(new: &Path, data: &Path, replaced: &Path) -> Result<(), Failure> {
    if !new.exists() {
        let message = "the snapshot has no `/data`: it is no backup of KubeDR; choose another one";
        return Err(Failure::Configuration(message.to_owned()));
    }
    remove(replaced)?;
    let aside = match fs::rename(data, replaced) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(cause) => return Err(written(data, &cause)),
    };
    if let Err(cause) = fs::rename(new, data) {
        if aside && let Err(error) = fs::rename(replaced, data) {
            tracing::error!(%error, kept = %replaced.display(), "the old data could not be put back");
        }
        return Err(written(data, &cause));
    }
    let settled = data.parent().map_or(Ok(()), sync).and_then(|()| remove(replaced));
    if let Err(error) = settled {
        tracing::warn!(%error, "the data is in place; what it replaced could not be cleared away");
    }
    Ok(())
}

fn sync(directory: &Path) -> Result<(), Failure> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|cause| written(directory, &cause))
}

fn remove(path: &Path) -> Result<(), Failure> {
    let outcome = match path.symlink_metadata() {
        Ok(about) if about.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    outcome.map_err(|cause| written(path, &cause))
}

/// A target that cannot be written.
fn written(path: &Path, cause: &io::Error) -> Failure {
    Failure::Target(format!("cannot write `{}`: {cause}{}", path.display(), advice(cause)))
}

/// What to do about a target that cannot be written.
pub(crate) fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; the target is too small: take a larger one",
        ErrorKind::ReadOnlyFilesystem => "; the target is mounted read-only: take another one",
        ErrorKind::PermissionDenied => {
            "; the target does not let this user write: take another one or correct its permissions"
        }
        _ => "",
    }
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
        let hint = if cause.kind() == ErrorKind::NotFound {
            "; the snapshot is no backup of KubeDR: choose another one"
        } else {
            ""
        };
        Failure::Repository(format!("cannot read the restored `{}`: {cause}{hint}", path.display()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_restores_to_one_target_the_second_is_refused_until_the_first_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let first = alone(dir.path()).unwrap();
        let refusal = alone(dir.path()).unwrap_err();
        assert_eq!(refusal.exit_code(), 2);
        assert!(refusal.to_string().contains("another restore"), "{refusal}");
        drop(first);
        alone(dir.path()).unwrap();
    }

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

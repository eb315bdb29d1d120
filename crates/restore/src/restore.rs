//! From a snapshot to files.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use kubedr_repo::{Repository, Restored, Snapshot, Watch};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Error, Stop,
    place::{alone, put_in_place, remove, sync},
    unpack::unpack,
};

/// Length of the SHA-256 that etcd puts after the database.
const HASH_LEN: u64 = 32;
/// Where the data stands below the target until it is complete and its hash was found right.
const STAGING: &str = ".kubedr-restore";
/// Where data that is replaced stands until it is removed.
const REPLACED: &str = ".kubedr-replaced";
/// Names of files that a warning lists; the log has all.
const NAMED: usize = 10;

/// What to restore, and to where.
pub struct Request {
    /// Snapshot: its id, a beginning of it, or `latest`.
    pub snapshot: String,
    /// Tags that the snapshot must have.
    pub tags: Vec<String>,
    /// Directory that gets `data`.
    pub target: PathBuf,
    /// What becomes of a `data` that is there.
    pub existing: Existing,
    /// Who is told how far it has come.
    pub watch: Option<Watch>,
    /// Who may stop it.
    pub stop: Stop,
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
    #[serde(skip)]
    archive: Archive,
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
        let look = match self.archive {
            Archive::Unpacked => format!(
                " (`restic dump {} /data/certificates.tar | tar -tv` shows those of the certificates)",
                self.snapshot_id
            ),
            Archive::None => String::new(),
        };
        format!(
            "owner or mode of {}{more} could not be set: only root may do that, and only where the file system keeps them; restore as \
             root to one that does, or set them when you copy the files{look}",
            names.join(", ")
        )
    }
}

/// Whether the certificates were in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Archive {
    /// They were, and it is unpacked and gone.
    Unpacked,
    /// They were not, as in the backups of KubeDR 0.x, or there are none.
    None,
}

/// Writes the snapshot's files to `target/data`, the certificates unpacked to `target/data/certificates`.
///
/// `data` gets its name only when everything is on disk and the hash that etcd put after the database was found right; what was there
/// under that name is kept until then. What an interrupted restore left is removed by the next one.
pub fn restore(repository: &Repository, request: &Request) -> Result<RestoreDone, Error> {
    let Request { snapshot, tags, target, existing, watch, stop } = request;
    refuse_existing(*existing, target)?;
    let Snapshot { id, time, host, tags, .. } = choose(repository, snapshot, tags)?;
    tracing::info!(snapshot = %id, %time, host, ?tags, "restoring");
    let (data, staging) = (target.join("data"), target.join(STAGING));
    let _alone = alone(target)?;
    stop.begin(&staging)?;
    let outcome = fill(repository, id.as_str(), &staging, watch.as_ref()).and_then(|filled| {
        // Somebody else may have put it there since the first look.
        refuse_existing(*existing, target)?;
        stop.put_in_place(|| put_in_place(&staging.join("data"), &data, &target.join(REPLACED)))
            .map(|()| filled)
    });
    if let Err(error) = remove(&staging) {
        tracing::warn!(%error, "what the restore needed in between could not be cleared away");
    }
    let Filled { restored: Restored { snapshot_id, files, bytes, metadata_not_set }, certificates, archive } =
        outcome?;
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
        archive,
    };
    if !done.metadata_not_set.is_empty() {
        tracing::warn!(files = ?done.metadata_not_set, "owner or mode of these files could not be set");
    }
    Ok(done)
}

/// Refuses a target that has a `data`, unless that is to be replaced.
pub fn refuse_existing(existing: Existing, target: &Path) -> Result<(), Error> {
    let data = target.join("data");
    if existing == Existing::Replace || data.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Error::Exists { data })
}

/// What stands in the staging directory.
struct Filled {
    restored: Restored,
    certificates: Option<PathBuf>,
    archive: Archive,
}

fn fill(
    repository: &Repository,
    snapshot: &str,
    staging: &Path,
    watch: Option<&Watch>,
) -> Result<Filled, Error> {
    let mut restored = match watch {
        Some(watch) => repository.restore_watched(snapshot, staging, watch)?,
        None => repository.restore(snapshot, staging)?,
    };
    let data = staging.join("data");
    check_hash(&data.join("etcd-snapshot.db"))?;
    let (file, certificates) = (data.join("certificates.tar"), data.join("certificates"));
    let mut archive = Archive::None;
    if file.exists() {
        let kept = unpack(&file, &certificates).map_err(|error| Error::written(&error.path, error.cause))?;
        fs::remove_file(&file).map_err(|cause| Error::written(&file, cause))?;
        // In its place stands what was in it.
        restored.metadata_not_set.retain(|path| *path != file);
        restored.metadata_not_set.extend(kept);
        archive = Archive::Unpacked;
    }
    sync(&data)?;
    Ok(Filled { restored, certificates: certificates.exists().then_some(certificates), archive })
}

/// The snapshot of this name; of several that `latest` could mean, those with all the tags count. Backups of several clusters among
/// them are an error: nobody gets another cluster's etcd by chance.
pub fn choose(repository: &Repository, name: &str, tags: &[String]) -> Result<Snapshot, Error> {
    if name != "latest" {
        let found = repository.snapshot(name)?;
        return match tags.iter().find(|tag| !found.tags.contains(tag)) {
            None => Ok(found),
            Some(tag) => Err(Error::LacksTag { snapshot: name.to_owned(), tag: tag.clone() }),
        };
    }
    let fits = |snapshot: &Snapshot| tags.iter().all(|tag| snapshot.tags.contains(tag));
    let mut all: Vec<_> = repository.snapshots()?.into_iter().filter(fits).collect();
    let url = || repository.url().to_owned();
    let clusters: BTreeSet<_> =
        all.iter().filter_map(|one| one.labels().get("cluster").map(|&uid| uid.to_owned())).collect();
    if clusters.len() > 1 {
        return Err(Error::SeveralClusters { url: url(), clusters });
    }
    match all.pop() {
        Some(newest) => Ok(newest),
        None if tags.is_empty() => Ok(repository.snapshot(name)?),
        None => Err(Error::NoneTagged { url: url(), tags: tags.to_vec() }),
    }
}

/// Compares the database with the SHA-256 behind it.
fn check_hash(path: &Path) -> Result<(), Error> {
    match hash_is_right(path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::WrongHash { path: path.to_owned() }),
        Err(cause) => Err(Error::Unreadable { path: path.to_owned(), cause }),
    }
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
    use crate::ErrorClass;

    #[test]
    fn files_whose_owner_could_not_be_set_are_named_with_what_to_do_and_nothing_that_is_gone() {
        let mut done = RestoreDone {
            snapshot_id: "8a1c06fd".into(),
            time: Timestamp::UNIX_EPOCH,
            host: String::new(),
            tags: vec![],
            etcd_snapshot: PathBuf::new(),
            certificates: None,
            files: 0,
            bytes: 0,
            metadata_not_set: vec![],
            archive: Archive::Unpacked,
        };
        assert_eq!(done.warning(), "");
        done.metadata_not_set =
            (0..12).map(|number| format!("/t/data/certificates/{number}").into()).collect();
        let said = done.warning();
        assert!(
            said.contains("`/t/data/certificates/9` and 2 more could not be set: only root may"),
            "{said}"
        );
        assert!(said.contains("`restic dump 8a1c06fd /data/certificates.tar | tar -tv`"), "{said}");
        done.archive = Archive::None;
        assert!(!done.warning().contains("certificates.tar"), "KubeDR 0.x had none");
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
        assert_eq!(check_hash(&path).unwrap_err().class(), ErrorClass::Repository);
        fs::write(&path, "short").unwrap();
        assert!(check_hash(&path).unwrap_err().to_string().contains("choose another snapshot"));
    }
}

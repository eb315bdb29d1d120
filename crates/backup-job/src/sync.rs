//! Looks at a repository, and compares it with the catalogue.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use kubedr_api::MetadataBackupRecord;
use kubedr_repo::{Contents, Listing, Repository, SnapshotId};
use serde::Serialize;

pub use plan::{Creation, Plan, Removal, Scene, Stray, StrayReason, Taken, Withheld, stands_for};

use crate::{Failure, Storage, backup::blocking};

/// How often the contents of a snapshot are looked at when something vanished while they were read: others may be at work.
const LOOKS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);

/// What is to be compared.
#[derive(Debug)]
pub struct SyncSettings {
    /// The repository.
    pub storage: Storage,
    /// The repository's own id, as the location is initialised with it.
    pub repository_id: String,
    /// Name of the location.
    pub location: String,
    /// The cluster, by the UID of its namespace kube-system.
    pub cluster: Option<String>,
    /// What the catalogue held before this run looked at the repository.
    pub known: Known,
}

/// What the cluster knows of backups. Read before the repository is: a record that is newer than the list of snapshots would
/// seem to have lost its snapshot.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// All records of the namespace.
    pub records: Vec<MetadataBackupRecord>,
    /// Snapshots that wait for their deletion: repository and id.
    pub pending: BTreeSet<(String, String)>,
}

/// What was seen, and what follows from it. Printed as the job's summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncDone {
    /// The repository, without secrets.
    pub repository: String,
    /// The repository's own id.
    pub repository_id: String,
    /// Snapshots in it, whoever made them.
    pub snapshots: usize,
    /// Bytes that it takes up.
    pub bytes: u64,
    /// What is to be done about the records.
    #[serde(flatten)]
    pub plan: Plan,
}

/// Looks at the repository and compares. Changes nothing, neither there nor in the cluster, and takes no lock: a storage that answers
/// is available, whoever works in the repository.
pub async fn look(settings: SyncSettings) -> Result<SyncDone, Failure> {
    blocking(move || {
        let SyncSettings { storage, repository_id, location, cluster, known } = settings;
        let repository = storage.open()?;
        let listing = repository.listing()?;
        let count = listing.count();
        let Listing { snapshots, unreadable } = listing;
        let unreadable = unreadable.into_iter().map(|(id, error)| (id, error.to_string())).collect();
        let scene = Scene {
            location: &location,
            cluster: cluster.as_deref(),
            expected_repository: &repository_id,
            repository: repository.id(),
            records: &known.records,
            snapshots: &snapshots,
            unreadable: &unreadable,
            pending: &known.pending,
        };
        let contents = read_contents(&repository, scene.unknown())?;
        Ok(SyncDone {
            repository: repository.url().to_owned(),
            repository_id: repository.id().to_owned(),
            snapshots: count,
            bytes: repository.size()?,
            plan: scene.plan(&contents),
        })
    })
    .await
}

/// What is in these snapshots, or why nobody knows. A storage that went away is a failure of the whole.
fn read_contents(
    repository: &Repository,
    mut wanted: Vec<SnapshotId>,
) -> Result<BTreeMap<SnapshotId, Result<Contents, String>>, Failure> {
    let mut known = BTreeMap::new();
    for look in 1..=LOOKS {
        if wanted.is_empty() {
            break;
        }
        let answers = repository.contents(&wanted)?;
        let mut left = Vec::new();
        for (id, answer) in wanted.into_iter().zip(answers) {
            match answer {
                Err(error) if error.is_temporary() => return Err(error.into()),
                Err(kubedr_repo::Error::NoSuchSnapshot { .. }) => {}
                Err(error) => {
                    known.insert(id.clone(), Err(error.to_string()));
                    left.push(id);
                }
                Ok(contents) => {
                    known.insert(id, Ok(contents));
                }
            }
        }
        wanted = left;
        if !wanted.is_empty() && look < LOOKS {
            thread::sleep(PAUSE);
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use kubedr_repo::{BackupRequest, InitOptions, Location, MemoryStore, Secret, Source};

    use super::*;

    /// A repository in memory with a snapshot of these files, all of one path.
    fn repository(snapshots: &[(&str, &str)]) -> (MemoryStore, Repository, Vec<SnapshotId>) {
        let store = MemoryStore::new();
        let location = Location::Memory(store.clone());
        let (repository, _) =
            Repository::init(&location, &Secret::new("p"), &InitOptions::default()).unwrap();
        let ids = snapshots.iter().map(|(path, file)| backup(&repository, path, file));
        let ids = ids.collect();
        (store, repository, ids)
    }

    fn backup(repository: &Repository, path: &str, file: &str) -> SnapshotId {
        let reader = Box::new(std::io::Cursor::new(file.as_bytes().to_vec()));
        let source = Source { path: file.to_owned(), size: file.len() as u64, mode: 0o600, reader };
        let request = BackupRequest {
            time: jiff::Timestamp::now(),
            host: "h".into(),
            tags: vec!["policy=daily".into()],
            path: path.to_owned(),
            sources: vec![source],
        };
        repository.backup(request).unwrap().snapshot_id
    }

    fn settings(store: &MemoryStore, repository_id: &str) -> SyncSettings {
        SyncSettings {
            storage: Storage::of(Location::Memory(store.clone()), Secret::new("p")),
            repository_id: repository_id.to_owned(),
            location: "s3".into(),
            cluster: None,
            known: Known::default(),
        }
    }

    #[tokio::test]
    async fn backups_of_etcd_are_found_and_nothing_else_and_nothing_is_written() {
        let (store, repository, ids) = repository(&[
            ("/data", "/data/etcd-snapshot.db"),
            ("/data", "/data/certificates.tar"),
            ("/srv", "/srv/etcd-snapshot.db"),
        ]);
        let done = look(settings(&store, repository.id())).await.unwrap();
        assert_eq!((done.snapshots, done.plan.create.len()), (3, 1), "{done:?}");
        assert_eq!(done.bytes, repository.size().unwrap());
        assert_eq!(
            (&done.plan.create[0].snapshot_id, done.plan.create[0].policy.as_str()),
            (&ids[0], "daily")
        );
        assert_eq!(repository.locks().unwrap(), []);
    }

    #[tokio::test]
    async fn one_snapshot_that_cannot_be_read_is_counted_and_named_and_the_others_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let location = Location::Local(directory.path().to_owned());
        let (repository, _) =
            Repository::init(&location, &Secret::new("p"), &InitOptions::default()).unwrap();
        let ids = [(); 2].map(|()| backup(&repository, "/data", "/data/etcd-snapshot.db"));
        std::fs::write(directory.path().join("snapshots").join(ids[0].as_str()), "damaged").unwrap();
        let settings = SyncSettings {
            storage: Storage::of(location, Secret::new("p")),
            ..settings(&MemoryStore::new(), repository.id())
        };
        let done = look(settings).await.unwrap();
        assert_eq!((done.snapshots, &done.plan.unreadable[0].0), (2, &ids[0]), "{done:?}");
        assert_eq!(done.plan.create[0].snapshot_id, ids[1]);
    }

    #[tokio::test]
    async fn another_repository_is_looked_at_and_nothing_follows() {
        let (store, _, _) = repository(&[("/data", "/data/etcd-snapshot.db")]);
        let done = look(settings(&store, "r1")).await.unwrap();
        assert!(matches!(done.plan.withheld, Some(Withheld::OtherRepository { .. })), "{done:?}");
        assert_eq!(done.plan.create, []);
    }

    #[tokio::test]
    async fn a_password_that_does_not_open_is_a_failure_and_no_empty_list() {
        let (store, repository, _) = repository(&[]);
        let mut settings = settings(&store, repository.id());
        settings.storage = Storage::of(Location::Memory(store), Secret::new("wrong"));
        let failure = look(settings).await.unwrap_err();
        assert_eq!(failure.exit_code(), 4);
        assert!(failure.to_string().contains("wrong password"), "{failure}");
    }
}

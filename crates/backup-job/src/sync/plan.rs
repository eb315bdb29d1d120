//! What follows from records on one side and snapshots on the other. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use kubedr_api::{
    ConditionType, MetadataBackupRecord, MetadataBackupRecordStatus, Origin,
    names::snapshot::{ROOT, TAG_CLUSTER, TAG_POLICY},
    record_name,
};
use kubedr_repo::{Contents, Snapshot, SnapshotId};
use serde::Serialize;

/// Policy of a backup that does not say for which one it was taken.
const NO_POLICY: &str = "discovered";
/// Longest value of a label.
const LABEL_MAX: usize = 63;
/// So many records may go at once whatever share of the location's records they are.
const REMOVALS_UNQUESTIONED: usize = 10;

/// What is compared.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Name of the location.
    pub location: &'a str,
    /// The cluster, by the UID of its namespace kube-system.
    pub cluster: Option<&'a str>,
    /// Identity of the repository that the location is initialised with.
    pub expected_repository: &'a str,
    /// Identity of the repository that is there.
    pub repository: &'a str,
    /// All records of the namespace, listed before the snapshots were.
    pub records: &'a [MetadataBackupRecord],
    /// All snapshots that can be read.
    pub snapshots: &'a [Snapshot],
    /// Those that are there and cannot be read, and why: nothing is concluded from what they do not say.
    pub unreadable: &'a BTreeMap<SnapshotId, String>,
    /// Snapshots that wait for their deletion: repository and id.
    pub pending: &'a BTreeSet<(String, String)>,
}

/// What is to be done about the records.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Backups without a record.
    pub create: Vec<Creation>,
    /// Records of KubeDR 0.x that know no more than the beginning of their snapshot's id.
    pub complete: Vec<Completion>,
    /// Records whose snapshot is gone.
    pub remove: Vec<Removal>,
    /// Records that say that their snapshot is gone although it is there.
    pub revive: Vec<String>,
    /// Records that stand for no backup in this repository, and stay.
    pub strays: Vec<Stray>,
    /// Backups that get no record.
    pub taken: Vec<Taken>,
    /// Why nothing is removed although snapshots seem to be gone.
    pub withheld: Option<Withheld>,
    /// Snapshots that could not be read, and why.
    pub unreadable: Vec<(SnapshotId, String)>,
}

/// A record to be made.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Creation {
    /// Id of the snapshot, in full.
    pub snapshot_id: SnapshotId,
    /// Policy that it was taken for.
    pub policy: String,
    /// What is known of it.
    #[serde(skip)]
    pub status: MetadataBackupRecordStatus,
}

/// A record to be completed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Completion {
    /// Its name.
    pub record: String,
    /// What is known of the backup.
    #[serde(skip)]
    pub status: MetadataBackupRecordStatus,
}

/// A record to be removed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removal {
    /// Its name.
    pub record: String,
    /// Snapshot that is gone.
    pub snapshot_id: String,
}

/// A record that stands for no backup in this repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stray {
    /// Its name.
    pub record: String,
    /// Why it does not.
    #[serde(flatten)]
    pub reason: StrayReason,
}

/// Why a record stands for no backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "reason")]
pub enum StrayReason {
    /// Its snapshot is in a repository that the location does not lead to any more.
    OtherRepository {
        /// The one that it is in.
        repository: String,
    },
    /// It does not say in which repository its snapshot is, and there is none of its id here.
    NoSuchSnapshot {
        /// What it knows of the id.
        snapshot_id: String,
    },
    /// Several snapshots have ids that begin as it says.
    Ambiguous {
        /// What it knows of the id.
        snapshot_id: String,
    },
}

/// A backup whose record's name belongs to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// The name.
    pub record: String,
    /// Id of the snapshot, in full.
    pub snapshot_id: String,
    /// Location of the record that has the name.
    pub location: String,
}

/// Why no record is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "reason")]
pub enum Withheld {
    /// It is not the repository that the location is initialised with.
    OtherRepository {
        /// The one that it is initialised with.
        expected: String,
        /// The one that is there.
        found: String,
    },
    /// So many snapshots do not vanish by themselves.
    TooMany {
        /// Records without a snapshot.
        missing: usize,
        /// Records of the location.
        records: usize,
    },
}

/// What was found in each snapshot that was not known, or why that cannot be told.
pub type FoundContents = BTreeMap<SnapshotId, Result<Contents, String>>;

impl Scene<'_> {
    /// Snapshots of which it has to be known what is in them.
    #[must_use]
    pub fn unknown(&self) -> Vec<SnapshotId> {
        if self.is_other_repository() {
            return Vec::new();
        }
        let completed: BTreeSet<_> = self.incomplete().into_iter().map(|(_, found)| &found.id).collect();
        let wanted = self.snapshots.iter().filter(|s| self.is_unclaimed(s) || completed.contains(&s.id));
        wanted.map(|snapshot| snapshot.id.clone()).collect()
    }

    /// What is to be done, once it is known what is in [`Self::unknown`].
    ///
    /// A repository that is another one, or from which too much seems to be gone, removes nothing.
    #[must_use]
    pub fn plan(&self, contents: &FoundContents) -> Plan {
        let mut plan = Plan::default();
        if self.is_other_repository() {
            let (expected, found) = (self.expected_repository.to_owned(), self.repository.to_owned());
            plan.withheld = Some(Withheld::OtherRepository { expected, found });
            return plan;
        }
        let unreadable = self.unreadable.iter().filter(|(id, _)| !self.is_pending(id));
        plan.unreadable = unreadable.map(|(id, why)| (id.clone(), why.clone())).collect();
        self.complete_records(contents, &mut plan);
        self.create_records(contents, &mut plan);
        self.remove_records(&mut plan);
        plan.strays = self.staying_records().filter_map(|record| self.stray(record)).collect();
        plan
    }

    fn is_other_repository(&self) -> bool {
        self.repository != self.expected_repository
    }

    fn complete_records(&self, contents: &FoundContents, plan: &mut Plan) {
        for (record, snapshot) in self.incomplete() {
            let found = match contents.get(&snapshot.id) {
                Some(Ok(found)) => found,
                Some(Err(why)) => {
                    plan.unreadable.push((snapshot.id.clone(), why.clone()));
                    continue;
                }
                None => continue,
            };
            let is_ours = self.cluster.is_some_and(|ours| snapshot.labels().get(TAG_CLUSTER) == Some(&ours));
            let origin = if is_ours { Origin::Backup } else { Origin::Discovered };
            let status = self.status(snapshot, found, origin);
            plan.complete.push(Completion { record: record.name_any(), status });
        }
    }

    fn create_records(&self, contents: &FoundContents, plan: &mut Plan) {
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        owners.extend(self.records.iter().map(|r| (r.name_any(), r.spec.backuploc.as_str())));
        for snapshot in self.snapshots.iter().filter(|snapshot| self.is_unclaimed(snapshot)) {
            let found = match contents.get(&snapshot.id) {
                Some(Ok(found)) if found.etcd => found,
                Some(Err(why)) => {
                    plan.unreadable.push((snapshot.id.clone(), why.clone()));
                    continue;
                }
                // Not a backup of etcd, or gone meanwhile.
                Some(Ok(_)) | None => continue,
            };
            let name = record_name(snapshot.id.as_str());
            if let Some(owner) = owners.get(&name) {
                let (snapshot_id, location) = (snapshot.id.to_string(), (*owner).to_owned());
                plan.taken.push(Taken { record: name, snapshot_id, location });
                continue;
            }
            owners.insert(name, self.location);
            plan.create.push(Creation {
                snapshot_id: snapshot.id.clone(),
                policy: policy(snapshot),
                status: self.status(snapshot, found, Origin::Discovered),
            });
        }
    }

    fn remove_records(&self, plan: &mut Plan) {
        let there = self.ids();
        let of_this_repository = self.staying_records().filter_map(|record| {
            let status = record.status.as_ref()?;
            let same = status.repository_id.as_deref() == Some(self.repository);
            status.snapshot_id.as_deref().filter(|_| same).map(|id| (record, id))
        });
        let mut records = 0;
        let mut remove = Vec::new();
        for (record, snapshot_id) in of_this_repository {
            records += 1;
            if !there.contains(snapshot_id) {
                remove.push(Removal { record: record.name_any(), snapshot_id: snapshot_id.to_owned() });
            } else if says_deleted(record) {
                plan.revive.push(record.name_any());
            }
        }
        let missing = remove.len();
        if missing > REMOVALS_UNQUESTIONED && missing * 2 > records {
            plan.withheld = Some(Withheld::TooMany { missing, records });
        } else {
            plan.remove = remove;
        }
    }

    /// Why the record stands for nothing here, if it does. What becomes of one that names this repository is decided elsewhere.
    fn stray(&self, record: &MetadataBackupRecord) -> Option<Stray> {
        let status = record.status.as_ref();
        let reason = match status.and_then(|known| known.repository_id.clone()) {
            Some(repository) if repository == self.repository => return None,
            Some(repository) => StrayReason::OtherRepository { repository },
            None => {
                let snapshot_id = full_id(record).unwrap_or(&record.spec.snapshot_id).to_owned();
                let fits = self.ids().into_iter().filter(|id| self.stands_for(record, id)).count();
                match fits {
                    0 => StrayReason::NoSuchSnapshot { snapshot_id },
                    1 => return None,
                    _ => StrayReason::Ambiguous { snapshot_id },
                }
            }
        };
        Some(Stray { record: record.name_any(), reason })
    }

    /// Ids of all snapshots, whether they can be read or not.
    fn ids(&self) -> BTreeSet<&str> {
        let readable = self.snapshots.iter().map(|snapshot| snapshot.id.as_str());
        readable.chain(self.unreadable.keys().map(SnapshotId::as_str)).collect()
    }

    /// Records of the location that are not being deleted.
    fn staying_records(&self) -> impl Iterator<Item = &MetadataBackupRecord> {
        self.own_records().filter(|record| record.metadata.deletion_timestamp.is_none())
    }

    fn own_records(&self) -> impl Iterator<Item = &MetadataBackupRecord> {
        self.records.iter().filter(|record| record.spec.backuploc == self.location)
    }

    /// Whether it could be a backup of which nobody knows: it has our path, no record, and is not about to be deleted.
    fn is_unclaimed(&self, snapshot: &Snapshot) -> bool {
        snapshot.paths.iter().any(|path| path == ROOT)
            && !self.is_pending(&snapshot.id)
            && !self.own_records().any(|record| self.stands_for(record, snapshot.id.as_str()))
    }

    fn is_pending(&self, snapshot: &SnapshotId) -> bool {
        self.pending.contains(&(self.repository.to_owned(), snapshot.to_string()))
    }

    fn stands_for(&self, record: &MetadataBackupRecord, snapshot_id: &str) -> bool {
        stands_for(record, self.location, self.repository, snapshot_id)
    }

    /// Records that know no full id, each with the one snapshot that theirs is the beginning of.
    fn incomplete(&self) -> Vec<(&MetadataBackupRecord, &Snapshot)> {
        let find = |record: &MetadataBackupRecord| {
            let mut fits = self.snapshots.iter().filter(|s| self.stands_for(record, s.id.as_str()));
            let only = fits.next().filter(|_| fits.next().is_none());
            only.filter(|_| !self.unreadable.keys().any(|id| self.stands_for(record, id.as_str())))
        };
        let short = self.own_records().filter(|record| full_id(record).is_none());
        short.filter_map(|record| find(record).map(|snapshot| (record, snapshot))).collect()
    }

    fn status(&self, snapshot: &Snapshot, contents: &Contents, origin: Origin) -> MetadataBackupRecordStatus {
        let cluster = snapshot.labels().get(TAG_CLUSTER).map(|cluster| (*cluster).to_owned());
        MetadataBackupRecordStatus {
            snapshot_id: Some(snapshot.id.to_string()),
            repository_id: Some(self.repository.to_owned()),
            backup_time: Some(snapshot.time.to_string()),
            total_bytes_processed: i64::try_from(contents.size).ok(),
            certificates: Some(contents.certificates),
            origin: Some(origin),
            cluster_uid: cluster.filter(|cluster| !cluster.is_empty()),
            conditions: Vec::new(),
        }
    }
}

/// Whether this record is that of this snapshot of this repository, as far as it knows.
#[must_use]
pub fn stands_for(
    record: &MetadataBackupRecord,
    location: &str,
    repository: &str,
    snapshot_id: &str,
) -> bool {
    let status = record.status.as_ref();
    let elsewhere =
        status.and_then(|known| known.repository_id.as_deref()).is_some_and(|id| id != repository);
    let same = match full_id(record) {
        Some(id) => id == snapshot_id,
        None => snapshot_id.starts_with(&record.spec.snapshot_id),
    };
    record.spec.backuploc == location && !elsewhere && same
}

fn says_deleted(record: &MetadataBackupRecord) -> bool {
    let conditions = record.status.iter().flat_map(|status| &status.conditions);
    let mut of_type = conditions.filter(|c| c.type_ == ConditionType::SnapshotDeleted.as_str());
    of_type.any(|condition| condition.status == "True")
}

fn full_id(record: &MetadataBackupRecord) -> Option<&str> {
    record.status.as_ref()?.snapshot_id.as_deref()
}

/// The policy that the snapshot names, if a policy can be called so: tags can be anything.
fn policy(snapshot: &Snapshot) -> String {
    let tag = snapshot.labels().get(TAG_POLICY).copied().filter(|name| is_name(name));
    tag.unwrap_or(NO_POLICY).to_owned()
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().is_some_and(plain) && text.bytes().last().is_some_and(plain);
    ends && text.len() <= LABEL_MAX && text.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests;

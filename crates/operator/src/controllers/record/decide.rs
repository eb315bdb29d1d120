//! What is to be done about a record.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kubedr_api::names::finalizer;
use kubedr_api::{
    BackupLocation, BackupLocationStatus, ConditionReason, ConditionType, MetadataBackupRecord,
    MetadataBackupRecordStatus, PendingDeletion,
};

use crate::controllers::finalizers;
use crate::controllers::surroundings::Surroundings;

/// A record that is being deleted waits this long for its snapshot's deletion.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(10);
/// The namespace's deletion may have begun a moment after it was looked at: a young deletion is looked at again soon.
const YOUNG: SignedDuration = SignedDuration::from_secs(30);
const LOOK_AGAIN_YOUNG: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What is known of a record.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    /// The record.
    pub record: &'a MetadataBackupRecord,
    /// Its location, if there is one.
    pub location: Option<&'a BackupLocation>,
    /// Whether namespace and CRD stay.
    pub surroundings: Surroundings,
    /// The time.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    Leave,
    /// Set the finalizer.
    Guard,
    /// Look again after this time, unless something changes before.
    LookAgain(Duration),
    /// Note in the location that the snapshot is to be deleted, then take the finalizer off.
    Postpone,
    /// Take the finalizer off.
    Release(Fate),
}

/// What became of the snapshot of a record that is let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was deleted.
    Deleted,
    /// It was not there any more, which whoever found that out has told.
    Missing,
    /// It stays, since the record was not deleted for itself. Nobody can be told: nothing may be created any more.
    Untouched,
    /// It is among those that the location has yet to delete, which has been told.
    Pending,
    /// It stays, for this reason.
    Kept(String),
}

/// What is to be done about a record in this state.
#[must_use]
pub fn decide(state: &State<'_>) -> Action {
    let State { record, location, surroundings, now } = *state;
    let guarded = finalizers::has(&record.metadata, finalizer::RECORD);
    let Some(deleted) = record.metadata.deletion_timestamp.as_ref().map(|time| time.0) else {
        // One that is about to go with its surroundings has just been freed by an operator that ends.
        let guard = !guarded && surroundings == Surroundings::Staying;
        return if guard { Action::Guard } else { Action::Leave };
    };
    if !guarded {
        return Action::Leave;
    }
    let status = record.status.clone().unwrap_or_default();
    if let Some(fate) = gone(&status) {
        return Action::Release(fate);
    }
    if surroundings == Surroundings::Leaving {
        return Action::Release(Fate::Untouched);
    }
    let name = &record.spec.backuploc;
    let Some(location) = location else {
        return Action::Release(Fate::Kept(format!("there is no BackupLocation `{name}` any more")));
    };
    if location.spec.is_read_only() {
        return Action::Release(Fate::Kept(format!("BackupLocation `{name}` has `accessMode: ReadOnly`")));
    }
    let age = now.duration_since(deleted);
    let known = location.status.clone().unwrap_or_default();
    match (&status.snapshot_id, &status.repository_id) {
        (Some(snapshot), Some(repository)) => {
            if is_pending(&known, snapshot, repository) {
                Action::Release(Fate::Pending)
            } else if known.repository_id.as_ref().is_some_and(|id| id != repository) {
                Action::Release(Fate::Kept(format!(
                    "BackupLocation `{name}` has another repository now than the one with the snapshot, `{repository}`"
                )))
            } else if age >= PATIENCE {
                Action::Postpone
            } else {
                look_again(age)
            }
        }
        // A record of KubeDR 0.x, which the next look at the repository completes.
        _ if age < PATIENCE => look_again(age),
        _ if was_seen_since(&known, deleted) => Action::Release(Fate::Kept(format!(
            "the record does not know its id in full, and the repository of BackupLocation `{name}` has none or several that begin \
             so"
        ))),
        _ => Action::Release(Fate::Kept(format!(
            "the record does not know its id in full, and the repository of BackupLocation `{name}` could not be looked at within \
             {} minutes",
            PATIENCE.as_mins()
        ))),
    }
}

/// Whether the repository was looked at with success after this time.
fn was_seen_since(location: &BackupLocationStatus, time: Timestamp) -> bool {
    let looked = location.last_validation_time.as_deref().and_then(|looked| looked.parse::<Timestamp>().ok());
    let type_ = ConditionType::Available.as_str();
    let available = location.conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
    available && looked.is_some_and(|looked| looked > time)
}

fn look_again(age: SignedDuration) -> Action {
    let left = Duration::try_from(PATIENCE - age).unwrap_or_default() + Duration::from_millis(50);
    Action::LookAgain(left.min(if age < YOUNG { LOOK_AGAIN_YOUNG } else { LOOK_AGAIN }))
}

/// What the job has said of the snapshot.
fn gone(status: &MetadataBackupRecordStatus) -> Option<Fate> {
    let type_ = ConditionType::SnapshotDeleted.as_str();
    let said = status.conditions.iter().find(|c| c.type_ == type_ && c.status == "True")?;
    Some(if said.reason == ConditionReason::Missing.as_str() { Fate::Missing } else { Fate::Deleted })
}

/// Whether the job has said that the snapshot is gone.
#[must_use]
pub fn is_gone(record: &MetadataBackupRecord) -> bool {
    record.status.as_ref().and_then(gone).is_some()
}

fn is_pending(location: &BackupLocationStatus, snapshot: &str, repository: &str) -> bool {
    let all = &location.pending_deletions;
    all.iter().any(|pending| pending.snapshot_id == snapshot && pending.repository_id == repository)
}

/// The location's list with these records' snapshots, and those of the records that were not in it.
#[must_use]
pub fn postponed(
    known: &[PendingDeletion],
    records: &[&MetadataBackupRecord],
    now: Timestamp,
) -> (Vec<PendingDeletion>, Vec<String>) {
    let mut all = known.to_vec();
    let mut added = Vec::new();
    for record in records {
        let status = record.status.clone().unwrap_or_default();
        let (Some(snapshot_id), Some(repository_id)) = (status.snapshot_id, status.repository_id) else {
            continue;
        };
        let known = |p: &PendingDeletion| p.snapshot_id == snapshot_id && p.repository_id == repository_id;
        if !all.iter().any(known) {
            added.push(record.name_any());
            let record = record.name_any();
            all.push(PendingDeletion { snapshot_id, repository_id, record, since: now.to_string() });
        }
    }
    (all, added)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record(metadata: &Value, status: &Value) -> MetadataBackupRecord {
        let mut all = json!({"name": "mbr-0a", "finalizers": [finalizer::RECORD]});
        for (key, value) in metadata.as_object().unwrap() {
            all[key] = value.clone();
        }
        let spec = json!({"backuploc": "s3", "policy": "daily", "snapshotId": "0a0a0a0a"});
        serde_json::from_value(json!({"metadata": all, "spec": spec, "status": status})).unwrap()
    }

    fn deleted(status: &Value) -> MetadataBackupRecord {
        record(&json!({"deletionTimestamp": at(0).to_string()}), status)
    }

    fn whole() -> Value {
        json!({"snapshotId": "0a0a0a0a0a", "repositoryId": "r1"})
    }

    fn location(mode: &str, status: &Value) -> BackupLocation {
        let spec = json!({"url": "http://h", "bucketName": "b", "credentials": "c", "accessMode": mode});
        serde_json::from_value(json!({"metadata": {"name": "s3"}, "spec": spec, "status": status})).unwrap()
    }

    fn here() -> BackupLocation {
        location("ReadWrite", &json!({"repositoryId": "r1"}))
    }

    fn after(record: &MetadataBackupRecord, location: Option<&BackupLocation>, second: i64) -> Action {
        decide(&State { record, location, surroundings: Surroundings::Staying, now: at(second) })
    }

    fn kept(action: Action) -> String {
        let Action::Release(Fate::Kept(why)) = action else { panic!("{action:?}") };
        why
    }

    #[test]
    fn a_record_without_the_finalizer_gets_it_unless_it_is_being_deleted() {
        let bare = record(&json!({"finalizers": []}), &whole());
        assert_eq!(after(&bare, None, 0), Action::Guard);
        let leaving =
            State { record: &bare, location: None, surroundings: Surroundings::Leaving, now: at(0) };
        assert_eq!(decide(&leaving), Action::Leave);
        assert_eq!(after(&record(&json!({}), &whole()), None, 0), Action::Leave);
        let going = record(&json!({"finalizers": ["x"], "deletionTimestamp": at(0).to_string()}), &whole());
        assert_eq!(after(&going, None, 0), Action::Leave);
    }

    #[test]
    fn a_deleted_record_waits_for_its_snapshot_for_ten_minutes() {
        let here = here();
        for (second, wait) in [(1, 3.0), (29, 3.0), (30, 30.0), (590, 10.05)] {
            let Action::LookAgain(again) = after(&deleted(&whole()), Some(&here), second) else { panic!() };
            assert!((again.as_secs_f64() - wait).abs() < 0.01, "{second}: {again:?}");
        }
        assert_eq!(after(&deleted(&whole()), Some(&here), 600), Action::Postpone);
    }

    #[test]
    fn a_record_whose_snapshot_is_gone_goes_whatever_else_is_the_case() {
        for (reason, fate) in [("Deleted", Fate::Deleted), ("Missing", Fate::Missing)] {
            let mut status = whole();
            status["conditions"] = json!([{"type": "SnapshotDeleted", "status": "True", "reason": reason, "message": "",
                "lastTransitionTime": at(0).to_string()}]);
            assert_eq!(after(&deleted(&status), None, 9000), Action::Release(fate));
        }
    }

    #[test]
    fn a_record_that_goes_with_its_namespace_or_crd_leaves_the_snapshot_alone() {
        let (record, here) = (deleted(&whole()), here());
        let state =
            State { record: &record, location: Some(&here), surroundings: Surroundings::Leaving, now: at(0) };
        assert_eq!(decide(&state), Action::Release(Fate::Untouched));
    }

    #[test]
    fn a_record_whose_snapshot_may_not_or_cannot_be_deleted_goes_and_says_why() {
        let record = deleted(&whole());
        assert!(kept(after(&record, None, 0)).contains("no BackupLocation `s3`"));
        let read_only = location("ReadOnly", &json!({"repositoryId": "r1"}));
        assert!(kept(after(&record, Some(&read_only), 0)).contains("ReadOnly"));
        let other = location("ReadWrite", &json!({"repositoryId": "r2"}));
        assert!(kept(after(&record, Some(&other), 0)).contains("another repository"));
    }

    #[test]
    fn a_location_that_is_initialised_anew_has_no_repository_for_a_while_and_that_is_no_other_one() {
        let anew = location("ReadWrite", &json!({}));
        assert!(matches!(after(&deleted(&whole()), Some(&anew), 0), Action::LookAgain(_)));
        assert_eq!(after(&deleted(&whole()), Some(&anew), 600), Action::Postpone);
    }

    #[test]
    fn a_record_of_which_too_little_is_known_waits_for_a_look_at_the_repository() {
        let legacy = deleted(&json!({}));
        assert!(matches!(after(&legacy, Some(&here()), 599), Action::LookAgain(_)));
        let looked = |available, second| {
            let condition = json!({"type": "Available", "status": available, "reason": "r", "message": "",
                "lastTransitionTime": at(0).to_string()});
            let status = json!({"repositoryId": "r1", "lastValidationTime": at(second).to_string(), "conditions": [condition]});
            location("ReadWrite", &status)
        };
        assert!(kept(after(&legacy, Some(&looked("True", 9)), 600)).contains("none or several"));
        for unseen in [here(), looked("True", -9), looked("False", 9)] {
            let why = kept(after(&legacy, Some(&unseen), 600));
            assert!(why.contains("could not be looked at within 10 minutes"), "{why}");
        }
    }

    #[test]
    fn a_postponed_snapshot_is_noted_once_and_then_lets_its_record_go() {
        let record = deleted(&whole());
        let (all, added) = postponed(&[], &[&record, &record], at(7));
        assert_eq!((all.len(), added), (1, vec!["mbr-0a".to_owned()]));
        assert_eq!(postponed(&all, &[&record], at(8)), (all.clone(), vec![]));
        let noted = location("ReadWrite", &json!({"repositoryId": "r1", "pendingDeletions": all}));
        assert_eq!(after(&record, Some(&noted), 1), Action::Release(Fate::Pending));
    }
}

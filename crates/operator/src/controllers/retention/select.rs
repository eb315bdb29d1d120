//! Which records retention counts, which of them it deletes, and by which rules.

use std::collections::HashMap;
use std::num::NonZeroU32;

use jiff::Timestamp;
use kube::ResourceExt;
use kubedr_api::names::annotation;
use kubedr_api::{
    BackupLocation, DEFAULT_RETAIN_NUM_BACKUPS, MetadataBackupPolicy, MetadataBackupPolicySpec,
    MetadataBackupRecord, Origin, Retention,
};

use crate::retention::within::WithinError;
use crate::retention::{Backup, KeepRules, expired};

/// The rules of a policy.
pub fn rules(spec: &MetadataBackupPolicySpec) -> Result<KeepRules, WithinError> {
    let number = match spec.retain_num_backups {
        0 => DEFAULT_RETAIN_NUM_BACKUPS,
        number => number,
    };
    let Some(retention) = &spec.retention else {
        return Ok(KeepRules { last: some(number), ..KeepRules::default() });
    };
    let Retention { keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within } =
        retention;
    // Everybody has the default, whether they want it or not.
    let said = Some(number).filter(|number| *number != DEFAULT_RETAIN_NUM_BACKUPS);
    let count = |number: Option<u32>| number.and_then(NonZeroU32::new);
    Ok(KeepRules {
        last: count(*keep_last).or_else(|| said.and_then(some)),
        hourly: count(*keep_hourly),
        daily: count(*keep_daily),
        weekly: count(*keep_weekly),
        monthly: count(*keep_monthly),
        yearly: count(*keep_yearly),
        within: keep_within.as_deref().map(str::parse).transpose()?,
    })
}

/// A number beyond all use keeps as many as can be counted, one below zero none more than the others do.
fn some(number: i64) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(number).unwrap_or(if number > 0 { u32::MAX } else { 0 }))
}

/// What is known beside the records.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Identity of the repository of each location whose snapshots may be deleted.
    pub repositories: &'a HashMap<String, String>,
    /// This cluster.
    pub cluster_uid: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// The locations whose snapshots may be deleted: they are there, and can be written, and their repositories are known.
pub fn repositories<'a>(locations: impl Iterator<Item = &'a BackupLocation>) -> HashMap<String, String> {
    let writable = locations
        .filter(|location| !location.spec.is_read_only() && location.metadata.deletion_timestamp.is_none());
    let repository = |location: &BackupLocation| location.status.as_ref()?.repository_id.clone();
    writable.filter_map(|location| Some((location.name_any(), repository(location)?))).collect()
}

/// Records of this policy that no rule keeps, the oldest first.
///
/// A record that does not count is never deleted, and the one that the policy's status names is not either: a clock that was
/// wrong may make the last backup look like the oldest.
#[must_use]
pub fn expired_records<'a>(
    policy: &MetadataBackupPolicy,
    rules: &KeepRules,
    records: impl Iterator<Item = &'a MetadataBackupRecord>,
    known: Known<'_>,
) -> Vec<&'a MetadataBackupRecord> {
    let name = policy.name_any();
    let last = policy.status.as_ref().and_then(|status| status.mbr_name.clone());
    let records: HashMap<String, &MetadataBackupRecord> = records
        .filter(|record| record.spec.policy == name)
        .map(|record| (record.name_any(), record))
        .collect();
    let backups: Vec<_> =
        records.iter().filter_map(|(name, record)| backup(name.clone(), record, known)).collect();
    let gone = expired(&backups, rules, known.now).into_iter();
    gone.filter(|name| Some(*name) != last.as_ref()).filter_map(|name| records.get(name).copied()).collect()
}

/// The record as the rules see it; `None` if it does not count.
fn backup(key: String, record: &MetadataBackupRecord, known: Known<'_>) -> Option<Backup<String>> {
    let status = record.status.as_ref()?;
    let pinned = record.annotations().get(annotation::KEEP).is_some_and(|value| value == "true");
    let ours =
        status.origin == Some(Origin::Backup) && status.cluster_uid.as_deref() == Some(known.cluster_uid);
    let repository = known.repositories.get(&record.spec.backuploc)?;
    let there = status.snapshot_id.is_some() && status.repository_id.as_ref() == Some(repository);
    if pinned || !ours || !there || record.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(Backup { key, time: status.backup_time.as_ref()?.parse().ok()?, pinned: false })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn policy(spec: &Value) -> MetadataBackupPolicy {
        let mut all = json!({"destination": "s3", "schedule": "@daily"});
        for (key, value) in spec.as_object().unwrap() {
            all[key] = value.clone();
        }
        let status = json!({"mbrName": "mbr-9"});
        serde_json::from_value(json!({"metadata": {"name": "daily"}, "spec": all, "status": status})).unwrap()
    }

    /// A record of the hour, with these changes to the object.
    fn record(hour: i64, changes: &[(&str, Value)]) -> MetadataBackupRecord {
        let mut object = json!({
            "metadata": {"name": format!("mbr-{hour}")},
            "spec": {"backuploc": "s3", "policy": "daily", "snapshotId": "00000000"},
            "status": {"snapshotId": "00", "repositoryId": "r1", "origin": "Backup", "clusterUID": "cluster-1",
                "backupTime": Timestamp::from_second(hour * 3600).unwrap().to_string()},
        });
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn deleted(policy: &MetadataBackupPolicy, records: &[MetadataBackupRecord]) -> Vec<String> {
        let repositories = HashMap::from([("s3".to_owned(), "r1".to_owned())]);
        let now = Timestamp::from_second(1_000_000).unwrap();
        let known = Known { repositories: &repositories, cluster_uid: "cluster-1", now };
        let rules = rules(&policy.spec).unwrap();
        expired_records(policy, &rules, records.iter(), known).iter().map(|r| r.name_any()).collect()
    }

    fn keep(number: i64) -> MetadataBackupPolicy {
        policy(&json!({"retainNumBackups": number}))
    }

    #[test]
    fn the_oldest_beyond_the_number_go_the_oldest_of_them_first() {
        let five: Vec<_> = [3, 1, 5, 2, 4].map(|hour| record(hour, &[])).into();
        assert_eq!(deleted(&keep(3), &five), ["mbr-1", "mbr-2"]);
        assert_eq!(deleted(&keep(0), &five), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_count_is_neither_deleted_nor_does_it_push_others_out() {
        let foreign: [(&str, Value); 9] = [
            ("/status/origin", json!("Discovered")),
            ("/status/origin", Value::Null),
            ("/status/clusterUID", json!("cluster-2")),
            ("/status/repositoryId", json!("r2")),
            ("/status/snapshotId", Value::Null),
            ("/status/backupTime", json!("yesterday")),
            ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
            ("/metadata/annotations", json!({"kubedr.catalogicsoftware.com/keep": "true"})),
            ("/spec/backuploc", json!("gone")),
        ];
        for change in foreign {
            // One older and one newer than those that count.
            let changes = std::slice::from_ref(&change);
            let all = [record(1, changes), record(2, &[]), record(3, &[]), record(4, changes)];
            assert_eq!(deleted(&keep(2), &all), Vec::<String>::new(), "{change:?}");
            assert_eq!(deleted(&keep(1), &all), ["mbr-2"], "{change:?}");
        }
        let other = [record(1, &[("/spec/policy", json!("weekly"))]), record(2, &[])];
        assert_eq!(deleted(&keep(1), &other), Vec::<String>::new());
    }

    #[test]
    fn the_record_that_the_status_names_stays_even_if_it_looks_like_the_oldest() {
        let wrong_clock = record(9, &[("/status/backupTime", json!("1969-01-01T00:00:00Z"))]);
        assert_eq!(deleted(&keep(1), &[wrong_clock, record(1, &[]), record(2, &[])]), ["mbr-1"]);
    }

    #[test]
    fn a_number_beside_other_rules_counts_only_if_it_is_not_the_default() {
        let last = |spec: Value| rules(&policy(&spec).spec).unwrap().last.map(NonZeroU32::get);
        assert_eq!(last(json!({})), Some(120));
        assert_eq!(last(json!({"retainNumBackups": 7})), Some(7));
        assert_eq!(last(json!({"retention": {"keepDaily": 3}})), None);
        assert_eq!(last(json!({"retention": {"keepDaily": 3}, "retainNumBackups": 0})), None);
        assert_eq!(last(json!({"retention": {"keepDaily": 3}, "retainNumBackups": 7})), Some(7));
        assert_eq!(last(json!({"retention": {"keepLast": 2}, "retainNumBackups": 7})), Some(2));
        assert_eq!(last(json!({"retainNumBackups": 9_000_000_000_i64})), Some(u32::MAX));
    }

    #[test]
    fn each_rule_reaches_its_field() {
        let retention = json!({"keepHourly": 1, "keepDaily": 2, "keepWeekly": 3, "keepMonthly": 4, "keepYearly": 5,
            "keepWithin": "1y2m3d4h"});
        let rules = rules(&policy(&json!({"retention": retention})).spec).unwrap();
        let numbers = [rules.hourly, rules.daily, rules.weekly, rules.monthly, rules.yearly];
        assert_eq!(numbers.map(|number| number.unwrap().get()), [1, 2, 3, 4, 5]);
        assert_eq!(rules.within.unwrap().to_string(), "1y2m3d4h");
        super::rules(&policy(&json!({"retention": {"keepWithin": "soon"}})).spec).unwrap_err();
    }

    #[test]
    fn only_locations_that_can_be_written_and_whose_repository_is_known_are_deleted_from() {
        let location = |name: &str, mode: &str, status: Value| -> BackupLocation {
            let spec = json!({"url": "http://h", "bucketName": "b", "credentials": "c", "accessMode": mode});
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": status}))
                .unwrap()
        };
        let all = [
            location("a", "ReadWrite", json!({"repositoryId": "r1"})),
            location("b", "ReadOnly", json!({"repositoryId": "r1"})),
            location("c", "ReadWrite", json!({})),
        ];
        assert_eq!(repositories(all.iter()), HashMap::from([("a".to_owned(), "r1".to_owned())]));
    }
}

use serde_json::{Value, json};

use super::*;

const REPOSITORY: &str = "r1";

fn id(beginning: &str) -> SnapshotId {
    format!("{beginning:0<64}").parse().unwrap()
}

fn snapshot(beginning: &str, tags: &[&str]) -> Snapshot {
    Snapshot {
        id: id(beginning),
        time: jiff::Timestamp::UNIX_EPOCH,
        host: "h".into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        paths: vec!["/data".into()],
        size: None,
    }
}

/// The record of this snapshot, changed as `patch` says.
fn record(beginning: &str, patch: Value) -> MetadataBackupRecord {
    let snapshot = id(beginning);
    let mut record = json!({
        "apiVersion": "kubedr.catalogicsoftware.com/v1alpha1", "kind": "MetadataBackupRecord",
        "metadata": {"name": record_name(snapshot.as_str()), "namespace": "ns"},
        "spec": {"backuploc": "s3", "policy": "daily", "snapshotId": snapshot.short()},
        "status": {"snapshotId": snapshot.as_str(), "repositoryId": REPOSITORY},
    });
    merge(&mut record, patch);
    serde_json::from_value(record).unwrap()
}

fn merge(into: &mut Value, patch: Value) {
    match patch {
        Value::Object(fields) => fields.into_iter().for_each(|(key, value)| merge(&mut into[key], value)),
        other => *into = other,
    }
}

/// What follows; each unknown snapshot holds etcd and no certificates.
fn plan(records: &[MetadataBackupRecord], snapshots: &[Snapshot]) -> Plan {
    plan_with(records, snapshots, &[], |_| Ok(Contents { etcd: true, certificates: false, size: 9 }))
}

/// What follows when these are there besides, and cannot be read.
fn plan_beside(
    unreadable: &[&str],
    records: &[MetadataBackupRecord],
    snapshots: &[Snapshot],
    pending: &[&str],
) -> Plan {
    let scene = Scene {
        location: "s3",
        cluster: Some("c1"),
        expected_repository: REPOSITORY,
        repository: REPOSITORY,
        records,
        snapshots,
        unreadable: &unreadable.iter().map(|u| (id(u), "wrong key".to_owned())).collect(),
        pending: &pending.iter().map(|p| (REPOSITORY.to_owned(), id(p).to_string())).collect(),
    };
    let contents = |_| Ok(Contents { etcd: true, certificates: false, size: 9 });
    scene.plan(&scene.unknown().into_iter().map(|id| (id.clone(), contents(id))).collect())
}

fn plan_with(
    records: &[MetadataBackupRecord],
    snapshots: &[Snapshot],
    pending: &[&str],
    contents: impl Fn(&SnapshotId) -> Result<Contents, String>,
) -> Plan {
    let pending = pending.iter().map(|p| (REPOSITORY.to_owned(), id(p).to_string())).collect();
    let scene = Scene {
        location: "s3",
        cluster: Some("c1"),
        expected_repository: REPOSITORY,
        repository: REPOSITORY,
        records,
        snapshots,
        unreadable: &BTreeMap::new(),
        pending: &pending,
    };
    let found = scene.unknown().into_iter().map(|id| (id.clone(), contents(&id))).collect();
    scene.plan(&found)
}

#[test]
fn records_and_snapshots_that_agree_need_nothing() {
    let agreed = plan(&[record("aa", json!({}))], &[snapshot("aa", &[])]);
    assert_eq!(agreed, Plan::default());
    assert_eq!(plan(&[], &[]), Plan::default());
}

#[test]
fn a_backup_without_a_record_gets_one_that_says_where_it_comes_from() {
    let found = plan(&[], &[snapshot("aa", &["cluster=c2", "policy=daily"])]);
    let [creation] = found.create.as_slice() else { panic!("{found:?}") };
    assert_eq!((&creation.snapshot_id, creation.policy.as_str()), (&id("aa"), "daily"));
    let expected = json!({
        "snapshotId": id("aa").as_str(), "repositoryId": REPOSITORY, "backupTime": "1970-01-01T00:00:00Z",
        "totalBytesProcessed": 9, "certificates": false, "origin": "Discovered", "clusterUID": "c2",
    });
    assert_eq!(serde_json::to_value(&creation.status).unwrap(), expected);
}

#[test]
fn even_a_backup_of_this_cluster_is_discovered_if_its_record_is_gone() {
    let found = plan(&[], &[snapshot("aa", &["cluster=c1", "policy=daily"])]);
    assert_eq!(found.create[0].status.origin, Some(Origin::Discovered));
}

#[test]
fn a_tag_that_no_policy_can_be_called_is_no_policy() {
    let long = format!("policy={}", "p".repeat(64));
    for tag in ["", "policy=", "policy=Daily", "policy=-a", "policy=a/b", "policy=a b", &long] {
        assert_eq!(plan(&[], &[snapshot("aa", &[tag])]).create[0].policy, "discovered", "{tag}");
    }
    assert_eq!(plan(&[], &[snapshot("aa", &["policy=a.b-1"])]).create[0].policy, "a.b-1");
}

#[test]
fn what_is_no_backup_of_etcd_gets_no_record() {
    let mut elsewhere = snapshot("aa", &[]);
    elsewhere.paths = vec!["/srv".into()];
    assert_eq!(plan(&[], &[elsewhere]), Plan::default());
    let empty = |_: &SnapshotId| Ok(Contents { etcd: false, certificates: true, size: 9 });
    assert_eq!(plan_with(&[], &[snapshot("aa", &[])], &[], empty), Plan::default());
}

#[test]
fn a_snapshot_that_waits_for_its_deletion_is_never_discovered() {
    let etcd = |_: &SnapshotId| Ok(Contents { etcd: true, certificates: false, size: 9 });
    assert_eq!(plan_with(&[], &[snapshot("aa", &[])], &["aa"], etcd), Plan::default());
}

#[test]
fn a_snapshot_whose_record_is_being_deleted_is_not_discovered_and_the_record_is_left_to_its_deletion() {
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-11-22T12:00:00Z", "finalizers": ["f"]}});
    let record = record("aa", leaving);
    assert_eq!(plan(std::slice::from_ref(&record), &[snapshot("aa", &[])]), Plan::default());
    assert_eq!(plan(&[record], &[]), Plan::default());
}

#[test]
fn a_snapshot_that_cannot_be_read_is_named_and_spoils_nothing_else() {
    let broken = |of: &SnapshotId| {
        if *of == id("aa") {
            Err("a tree is missing".to_owned())
        } else {
            Ok(Contents { etcd: true, certificates: false, size: 9 })
        }
    };
    let found = plan_with(&[], &[snapshot("aa", &[]), snapshot("bb", &[])], &[], broken);
    assert_eq!(found.unreadable, [(id("aa"), "a tree is missing".to_owned())]);
    assert_eq!(found.create.len(), 1);
}

#[test]
fn a_name_that_another_location_or_snapshot_has_is_left_to_it() {
    let other = record("aa", json!({"spec": {"backuploc": "other"}}));
    let taken = plan(&[other], &[snapshot("aa", &[])]).taken;
    let expected =
        Taken { record: "mbr-aa000000".into(), snapshot_id: id("aa").to_string(), location: "other".into() };
    assert_eq!(taken, [expected]);
    // The same eight digits, of another repository or of another snapshot.
    let elsewhere = record("aa", json!({"status": {"repositoryId": "r2"}}));
    assert_eq!(plan(&[elsewhere], &[snapshot("aa", &[])]).taken[0].location, "s3");
    let both = plan(&[], &[snapshot("aa0000001", &[]), snapshot("aa0000002", &[])]);
    assert_eq!((both.create.len(), both.taken.len()), (1, 1));
}

#[test]
fn a_record_of_kubedr_that_fits_exactly_one_snapshot_is_completed() {
    let legacy = || record("aa", json!({"status": null}));
    for (tags, origin) in [
        (vec![], Origin::Discovered),
        (vec!["cluster=c1"], Origin::Backup),
        (vec!["cluster=c2"], Origin::Discovered),
    ] {
        let found = plan(&[legacy()], &[snapshot("aa", &tags), snapshot("bb", &[])]);
        assert_eq!(found.complete.len(), 1);
        assert_eq!(found.complete[0].record, "mbr-aa000000");
        assert_eq!(found.complete[0].status.snapshot_id.as_deref(), Some(id("aa").as_str()));
        assert_eq!(found.complete[0].status.origin, Some(origin), "{tags:?}");
        assert_eq!(found.create.len(), 1, "the other one");
    }
    let two = plan(&[legacy()], &[snapshot("aa0000001", &[]), snapshot("aa0000002", &[])]);
    assert_eq!((two.complete, two.create), (vec![], vec![]));
}

#[test]
fn a_record_that_fits_no_snapshot_or_several_and_one_of_another_repository_stay_and_are_named() {
    let legacy = record("aa", json!({"status": null}));
    let stray = |reason| vec![Stray { record: "mbr-aa000000".into(), reason }];
    let short = "aa000000".to_owned();
    let none = plan(std::slice::from_ref(&legacy), &[]);
    assert_eq!(none.strays, stray(StrayReason::NoSuchSnapshot { snapshot_id: short.clone() }));
    let two = [snapshot("aa0000001", &[]), snapshot("aa0000002", &[])];
    let two = plan(std::slice::from_ref(&legacy), &two);
    assert_eq!(two.strays, stray(StrayReason::Ambiguous { snapshot_id: short }));
    let elsewhere = record("aa", json!({"status": {"repositoryId": "r2"}}));
    let elsewhere = plan(&[elsewhere], &[]);
    assert_eq!(elsewhere.strays, stray(StrayReason::OtherRepository { repository: "r2".into() }));
    for found in [&none, &two, &elsewhere] {
        assert_eq!((found.remove.len(), &found.withheld), (0, &None));
    }
    // One that fits is completed, and one that is on its way is left to its deletion.
    assert_eq!(plan(&[legacy], &[snapshot("aa", &[])]).strays, []);
    let leaving = json!({"status": null, "metadata": {"deletionTimestamp": "2026-11-22T12:00:00Z", "finalizers": ["f"]}});
    assert_eq!(plan(&[record("aa", leaving)], &[]), Plan::default());
}

#[test]
fn a_snapshot_that_is_there_and_cannot_be_read_keeps_its_record_and_is_named() {
    let records: Vec<_> = (0..12).map(|n| record(&format!("{n:08x}"), json!({}))).collect();
    let there: Vec<_> = (1..12).map(|n| snapshot(&format!("{n:08x}"), &[])).collect();
    let found = plan_beside(&["00000000"], &records, &there, &[]);
    let unreadable = vec![(id("00000000"), "wrong key".to_owned())];
    assert_eq!(found, Plan { unreadable, ..Plan::default() });
    // All the others are compared as ever.
    let found = plan_beside(&["00000000"], &records, &there[1..], &[]);
    assert_eq!((found.remove.len(), found.unreadable.len()), (1, 1));
    assert_eq!(plan_beside(&["bb"], &[], &[snapshot("aa", &[])], &[]).create.len(), 1);
    // One that waits for its deletion needs no word.
    assert_eq!(plan_beside(&["bb"], &[], &[], &["bb"]), Plan::default());
}

#[test]
fn a_record_of_kubedr_is_not_completed_by_one_of_two_of_which_the_other_cannot_be_read() {
    let legacy = record("aa", json!({"status": null}));
    let readable = [snapshot("aa0000001", &[])];
    let found = plan_beside(&["aa0000002"], std::slice::from_ref(&legacy), &readable, &[]);
    assert_eq!((found.complete, found.create), (vec![], vec![]));
    assert_eq!(found.strays.len(), 1);
    let only = plan_beside(&["aa"], &[legacy], &[], &[]);
    assert_eq!((only.strays.len(), only.unreadable.len()), (0, 1), "it may well be its own");
}

#[test]
fn what_a_record_says_of_a_snapshot_that_is_there_again_is_taken_back() {
    let said = |status: &str| {
        json!({"status": {"conditions": [{"type": "SnapshotDeleted", "status": status, "reason": "Missing", "message": "",
            "lastTransitionTime": "2026-11-22T12:00:00Z"}]}})
    };
    let there = [snapshot("aa", &[])];
    let again = plan(&[record("aa", said("True"))], &there);
    assert_eq!(again, Plan { revive: vec!["mbr-aa000000".to_owned()], ..Plan::default() });
    assert_eq!(plan(&[record("aa", said("False"))], &there), Plan::default());
    let mut leaving = said("True");
    leaving["metadata"] = json!({"deletionTimestamp": "2026-11-22T12:00:00Z", "finalizers": ["f"]});
    // Else its deletion, which the missing snapshot was the reason of, would delete the one that came back.
    assert_eq!(plan(&[record("aa", leaving)], &there), Plan::default());
}

#[test]
fn a_record_whose_snapshot_is_gone_goes() {
    let records = [record("aa", json!({})), record("bb", json!({}))];
    let removal = Removal { record: "mbr-bb000000".into(), snapshot_id: id("bb").to_string() };
    assert_eq!(plan(&records, &[snapshot("aa", &[])]).remove, [removal]);
}

#[test]
fn records_of_another_location_or_repository_are_not_ours_to_remove() {
    let others = [
        record("aa", json!({"spec": {"backuploc": "other"}})),
        record("bb", json!({"status": {"repositoryId": "r2"}})),
        record("cc", json!({"status": {"repositoryId": null}})),
    ];
    let found = plan(&others, &[]);
    let named: Vec<_> = found.strays.iter().map(|stray| stray.record.as_str()).collect();
    assert_eq!(named, ["mbr-bb000000", "mbr-cc000000"]);
    assert_eq!(Plan { strays: vec![], ..found }, Plan::default(), "they are named and left alone");
}

#[test]
fn too_many_removals_are_withheld_and_ten_or_half_are_not() {
    // Records, snapshots that are there, removals, or none of them if they are withheld.
    for (records, there, removed) in [
        (10, 0, Some(10)),
        (11, 0, None),
        (22, 11, Some(11)),
        (21, 10, None),
        (500, 300, Some(200)),
        (1, 0, Some(1)),
    ] {
        let all: Vec<_> = (0..records).map(|n| record(&format!("{n:08x}"), json!({}))).collect();
        let left: Vec<_> = (0..there).map(|n| snapshot(&format!("{n:08x}"), &[])).collect();
        let found = plan(&all, &left);
        assert_eq!(found.remove.len(), removed.unwrap_or(0), "{records} {there}");
        let withheld = Withheld::TooMany { missing: records - there, records };
        assert_eq!(found.withheld, removed.is_none().then_some(withheld), "{records} {there}");
    }
}

#[test]
fn in_another_repository_nothing_is_created_or_removed() {
    let records = [record("aa", json!({}))];
    let snapshots = [snapshot("bb", &[])];
    let scene = Scene {
        location: "s3",
        cluster: None,
        expected_repository: REPOSITORY,
        repository: "r2",
        records: &records,
        snapshots: &snapshots,
        unreadable: &BTreeMap::new(),
        pending: &BTreeSet::new(),
    };
    assert_eq!(scene.unknown(), []);
    let withheld = Withheld::OtherRepository { expected: REPOSITORY.into(), found: "r2".into() };
    assert_eq!(scene.plan(&BTreeMap::new()), Plan { withheld: Some(withheld), ..Plan::default() });
}

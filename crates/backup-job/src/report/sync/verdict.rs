//! What a look at a repository makes of the location's status. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kubedr_api::{BackupLocationStatus, ConditionReason, ConditionType, EventReason, set_condition};
use kubedr_repo::SnapshotId;

use crate::{
    SyncDone,
    sync::{Stray, StrayReason, Taken, Withheld},
};

/// Things of one kind that a message names.
const NAMED: usize = 5;

/// What a sync job writes, and the events that go with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The two conditions that are its own.
    pub conditions: Vec<Condition>,
    /// Snapshots in the repository.
    pub snapshots: Option<i64>,
    /// Bytes that it takes up.
    pub bytes: Option<i64>,
    /// Events that are due.
    pub events: Vec<(EventReason, String)>,
}

/// After the repository could be looked at.
pub fn available(known: &BackupLocationStatus, done: &SyncDone, taken: &[Taken], generation: i64) -> Verdict {
    let mut conditions = ours(&known.conditions);
    let was_away = find(&conditions, ConditionType::Available).is_some_and(|c| c.status != "True");
    let message = format!("{} answers and the password opens it", done.repository);
    let mut set = |type_, reason, message: &str| {
        set_condition(&mut conditions, type_, reason, message, Some(generation), Timestamp::now())
    };
    let (available, complete) = (ConditionType::Available, ConditionType::CatalogComplete);
    let _ = set(available, ConditionReason::Reachable, &message);
    let mut events = Vec::new();
    if was_away {
        events.push((EventReason::Available, message));
    }
    let (reason, message) = catalogue(done, taken);
    let old = find(&known.conditions, complete).map(|c| (c.reason.clone(), c.message.clone()));
    let _ = set(complete, reason, &message);
    let is_news = old.is_none_or(|old| old != (reason.as_str().to_owned(), message.clone()));
    events.extend(event_of(reason).filter(|_| is_news).map(|event| (event, message)));
    let (snapshots, bytes) = (i64::try_from(done.snapshots).ok(), i64::try_from(done.bytes).ok());
    Verdict { conditions, snapshots, bytes, events }
}

/// After it could not be looked at. What is known of the catalogue stays.
pub fn unavailable(known: &BackupLocationStatus, message: &str, generation: i64) -> Verdict {
    let mut conditions = ours(&known.conditions);
    let is_news = set_condition(
        &mut conditions,
        ConditionType::Available,
        ConditionReason::ValidationFailed,
        message,
        Some(generation),
        Timestamp::now(),
    );
    let events = if is_news { vec![(EventReason::Unavailable, message.to_owned())] } else { Vec::new() };
    Verdict { conditions, snapshots: known.snapshots, bytes: known.repository_bytes, events }
}

fn ours(all: &[Condition]) -> Vec<Condition> {
    let types = [ConditionType::Available.as_str(), ConditionType::CatalogComplete.as_str()];
    all.iter().filter(|condition| types.contains(&condition.type_.as_str())).cloned().collect()
}

fn find(all: &[Condition], type_: ConditionType) -> Option<&Condition> {
    all.iter().find(|condition| condition.type_ == type_.as_str())
}

const fn event_of(reason: ConditionReason) -> Option<EventReason> {
    match reason {
        ConditionReason::RemovalsWithheld => Some(EventReason::RemovalsWithheld),
        ConditionReason::SnapshotUnreadable => Some(EventReason::SnapshotUnreadable),
        ConditionReason::RecordNameTaken => Some(EventReason::RecordNameTaken),
        _ => None,
    }
}

/// Whether records and snapshots agree now; the gravest reason why not, and all that is to be said, the gravest first.
fn catalogue(done: &SyncDone, taken: &[Taken]) -> (ConditionReason, String) {
    let SyncDone { plan, repository: url, .. } = done;
    let withheld = plan.withheld.as_ref().map(|withheld| withheld_message(withheld, url));
    let findings = [
        (ConditionReason::RemovalsWithheld, withheld),
        (ConditionReason::SnapshotUnreadable, some(&plan.unreadable, unreadable_message)),
        (ConditionReason::RecordNameTaken, some(taken, taken_message)),
        (ConditionReason::RecordsWithoutSnapshot, some(&plan.strays, |all| strays_message(all, url))),
    ];
    let mut said = findings.into_iter().filter_map(|(reason, message)| Some((reason, message?)));
    let Some((reason, mut message)) = said.next() else {
        let message = "every backup has its record, and every record its snapshot".to_owned();
        return (ConditionReason::UpToDate, message);
    };
    for (_, more) in said {
        message.push_str(". Besides: ");
        message.push_str(&more);
    }
    (reason, message)
}

fn some<T>(all: &[T], message: impl Fn(&[T]) -> String) -> Option<String> {
    (!all.is_empty()).then(|| message(all))
}

fn unreadable_message(unreadable: &[(SnapshotId, String)]) -> String {
    let one = |(id, why): &(SnapshotId, String)| format!("{id} ({why})");
    format!(
        "snapshots cannot be read: {}. They count as there, and their records stay; `restic check` tells more. Bring what is damaged \
         back from the storage's versions or a copy, or delete the file in `snapshots` there: until then no space is reclaimed",
        listed(unreadable, one)
    )
}

fn taken_message(taken: &[Taken]) -> String {
    let one = |taken: &Taken| {
        let Taken { record, snapshot_id, location } = taken;
        format!("`{record}` of snapshot {snapshot_id} (there is one of location `{location}`)")
    };
    format!(
        "backups get no record because its name is taken: {}. If both locations lead to one repository, that is as it should be: \
         the other record stands for the same backup, and deleting it deletes the backup. Otherwise keep the locations in \
         namespaces of their own",
        listed(taken, one)
    )
}

fn strays_message(strays: &[Stray], url: &str) -> String {
    let one = |stray: &Stray| {
        let record = &stray.record;
        match &stray.reason {
            StrayReason::OtherRepository { repository } => {
                format!("`{record}` (of repository {repository}, which was there before)")
            }
            StrayReason::NoSuchSnapshot { snapshot_id } => format!("`{record}` (no snapshot {snapshot_id})"),
            StrayReason::Ambiguous { snapshot_id } => {
                format!("`{record}` (several snapshots begin with {snapshot_id})")
            }
        }
    };
    format!(
        "records stand for no backup in {url}: {}. They cannot be restored from here, and nobody removes them; delete them, which \
         deletes no snapshot, or bring back what the location led to",
        listed(strays, one)
    )
}

fn withheld_message(withheld: &Withheld, url: &str) -> String {
    match withheld {
        Withheld::OtherRepository { expected, found } => format!(
            "{url} holds another repository than the one that the location was initialised with ({found} instead of {expected}): no \
             record is made or removed; bring the old one back, or delete the location and create it anew"
        ),
        Withheld::TooMany { missing, records } => format!(
            "the snapshots of {missing} of {records} records are not in {url}: no record is removed, since that may be a mistake; \
             bring the snapshots back, or delete these records yourself"
        ),
    }
}

fn listed<T>(all: &[T], one: impl Fn(&T) -> String) -> String {
    let named = all.iter().take(NAMED).map(one).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Plan;

    fn done(plan: Plan) -> SyncDone {
        SyncDone {
            repository: "s3:http://h/b".into(),
            repository_id: "r1".into(),
            snapshots: 7,
            bytes: 900,
            plan,
        }
    }

    fn after(known: &BackupLocationStatus, verdict: &Verdict) -> BackupLocationStatus {
        BackupLocationStatus { conditions: verdict.conditions.clone(), ..known.clone() }
    }

    fn said(verdict: &Verdict) -> Vec<(&str, &str, &str)> {
        verdict.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn a_first_look_that_finds_all_in_order_is_no_event() {
        let verdict = available(&BackupLocationStatus::default(), &done(Plan::default()), &[], 3);
        assert_eq!(
            said(&verdict),
            [("Available", "True", "Reachable"), ("CatalogComplete", "True", "UpToDate")]
        );
        assert_eq!((verdict.snapshots, verdict.bytes, verdict.events), (Some(7), Some(900), vec![]));
        assert_eq!(verdict.conditions[0].observed_generation, Some(3));
    }

    #[test]
    fn a_storage_that_goes_away_and_comes_back_is_told_once_each() {
        let first = BackupLocationStatus::default();
        let away = unavailable(&first, "no route", 1);
        assert_eq!(away.events, [(EventReason::Unavailable, "no route".into())]);
        let known = after(&first, &away);
        assert_eq!(unavailable(&known, "no answer", 1).events, []);
        let back = available(&known, &done(Plan::default()), &[], 1);
        assert_eq!(back.events[0].0, EventReason::Available);
        assert_eq!(available(&after(&known, &back), &done(Plan::default()), &[], 1).events, []);
    }

    #[test]
    fn a_failed_look_keeps_what_is_known_of_the_catalogue() {
        let first = available(&BackupLocationStatus::default(), &done(Plan::default()), &[], 1);
        let known = BackupLocationStatus {
            snapshots: Some(7),
            repository_bytes: Some(900),
            ..after(&BackupLocationStatus::default(), &first)
        };
        let verdict = unavailable(&known, "no route", 1);
        assert_eq!((verdict.snapshots, verdict.bytes), (Some(7), Some(900)));
        assert!(said(&verdict).contains(&("CatalogComplete", "True", "UpToDate")));
    }

    #[test]
    fn what_is_withheld_or_taken_is_said_with_its_numbers_and_an_event_when_it_is_news() {
        let withheld = Some(Withheld::TooMany { missing: 11, records: 12 });
        let plan = Plan { withheld, ..Plan::default() };
        let verdict = available(&BackupLocationStatus::default(), &done(plan.clone()), &[], 1);
        assert_eq!(said(&verdict)[1], ("CatalogComplete", "False", "RemovalsWithheld"));
        let (event, message) = &verdict.events[0];
        assert_eq!(*event, EventReason::RemovalsWithheld);
        assert!(message.contains("11 of 12 records"), "{message}");
        let known = after(&BackupLocationStatus::default(), &verdict);
        assert_eq!(available(&known, &done(plan), &[], 1).events, []);

        let taken = Taken { record: "mbr-1".into(), snapshot_id: "1f".into(), location: "other".into() };
        let verdict = available(&known, &done(Plan::default()), &[taken], 1);
        assert_eq!(verdict.events[0].0, EventReason::RecordNameTaken);
        assert!(verdict.events[0].1.contains("`mbr-1` of snapshot 1f (there is one of location `other`)"));
    }

    #[test]
    fn a_snapshot_that_cannot_be_read_leaves_the_location_available_and_is_named_with_what_to_do() {
        let id: SnapshotId = "1f".repeat(32).parse().unwrap();
        let plan = Plan { unreadable: vec![(id.clone(), "wrong key".into())], ..Plan::default() };
        let verdict = available(&BackupLocationStatus::default(), &done(plan), &[], 1);
        let expected =
            [("Available", "True", "Reachable"), ("CatalogComplete", "False", "SnapshotUnreadable")];
        assert_eq!(said(&verdict), expected);
        let (event, message) = &verdict.events[0];
        assert_eq!(*event, EventReason::SnapshotUnreadable);
        assert!(message.contains(&format!("{id} (wrong key)")) && message.contains("`restic check`"));
    }

    #[test]
    fn records_that_stand_for_nothing_here_are_named_after_what_is_graver() {
        let stray = |record: &str, reason| Stray { record: record.into(), reason };
        let strays = vec![
            stray("mbr-1", StrayReason::OtherRepository { repository: "r0".into() }),
            stray("mbr-2", StrayReason::NoSuchSnapshot { snapshot_id: "2222".into() }),
            stray("mbr-3", StrayReason::Ambiguous { snapshot_id: "3333".into() }),
        ];
        let plan = Plan { strays, ..Plan::default() };
        let verdict = available(&BackupLocationStatus::default(), &done(plan.clone()), &[], 1);
        assert_eq!(said(&verdict)[1], ("CatalogComplete", "False", "RecordsWithoutSnapshot"));
        let message = &verdict.conditions[1].message;
        for named in ["`mbr-1` (of repository r0", "`mbr-2` (no snapshot 2222)", "`mbr-3` (several"] {
            assert!(message.contains(named), "{message}");
        }
        let withheld = Some(Withheld::TooMany { missing: 11, records: 12 });
        let verdict = available(&BackupLocationStatus::default(), &done(Plan { withheld, ..plan }), &[], 1);
        assert_eq!(said(&verdict)[1].2, "RemovalsWithheld");
        assert!(verdict.conditions[1].message.contains("Besides: records stand for no backup"));
    }
}

//! Events, named after the run that they tell of, so that each is there exactly once.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::names::{GROUP, VERSION};

/// Longest message that the API server takes, in bytes (Kubernetes, validation of events).
const MESSAGE_MAX: usize = 1024;

/// Reasons of our events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventReason {
    /// A location's repository is initialised.
    InitSucceeded,
    /// A location's repository could not be initialised.
    InitFailed,
    /// A backup is stored and checked.
    BackupSucceeded,
    /// A backup failed.
    BackupFailed,
    /// A restore left its data on the volume.
    RestoreSucceeded,
    /// A restore failed.
    RestoreFailed,
    /// A restore whose volume did not take owner or mode of some files.
    OwnersNotRestored,
    /// A location's storage answers again.
    Available,
    /// A location's storage does not answer, or the password does not open the repository.
    Unavailable,
    /// The repository is locked by somebody else; the job waits.
    WaitingForLock,
    /// A snapshot was deleted with its record.
    SnapshotDeleted,
    /// A record went before its snapshot could be deleted.
    DeletionPending,
    /// A record went and its snapshot stays in the repository, since nobody may or can delete it there.
    SnapshotKept,
    /// A record's snapshot is not in the repository any more.
    SnapshotMissing,
    /// A record was made for a backup that was found in the repository.
    BackupDiscovered,
    /// A backup that was found gets no record, since its name is taken.
    RecordNameTaken,
    /// Snapshots are there and cannot be read.
    SnapshotUnreadable,
    /// Records are kept although their snapshots seem to be gone.
    RemovalsWithheld,
    /// Space was reclaimed.
    Pruned,
    /// Space could not be reclaimed, or snapshots not deleted.
    MaintenanceFailed,
    /// The repository is damaged.
    CheckFailed,
    /// The operator cannot act on the object; the message says why.
    NotReady,
}

impl EventReason {
    /// As written in the event.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InitSucceeded => "InitSucceeded",
            Self::InitFailed => "InitFailed",
            Self::BackupSucceeded => "BackupSucceeded",
            Self::BackupFailed => "BackupFailed",
            Self::RestoreSucceeded => "RestoreSucceeded",
            Self::RestoreFailed => "RestoreFailed",
            Self::OwnersNotRestored => "OwnersNotRestored",
            Self::Available => "Available",
            Self::Unavailable => "Unavailable",
            Self::WaitingForLock => "WaitingForLock",
            Self::SnapshotDeleted => "SnapshotDeleted",
            Self::DeletionPending => "DeletionPending",
            Self::SnapshotKept => "SnapshotKept",
            Self::SnapshotMissing => "SnapshotMissing",
            Self::BackupDiscovered => "BackupDiscovered",
            Self::RecordNameTaken => "RecordNameTaken",
            Self::SnapshotUnreadable => "SnapshotUnreadable",
            Self::RemovalsWithheld => "RemovalsWithheld",
            Self::Pruned => "Pruned",
            Self::MaintenanceFailed => "MaintenanceFailed",
            Self::CheckFailed => "CheckFailed",
            Self::NotReady => "NotReady",
        }
    }

    const fn event_type(self) -> &'static str {
        match self {
            Self::InitSucceeded
            | Self::BackupSucceeded
            | Self::RestoreSucceeded
            | Self::Available
            | Self::WaitingForLock
            | Self::SnapshotDeleted
            | Self::BackupDiscovered
            | Self::Pruned => "Normal",
            Self::InitFailed
            | Self::BackupFailed
            | Self::RestoreFailed
            | Self::OwnersNotRestored
            | Self::Unavailable
            | Self::DeletionPending
            | Self::SnapshotKept
            | Self::SnapshotMissing
            | Self::RecordNameTaken
            | Self::SnapshotUnreadable
            | Self::RemovalsWithheld
            | Self::MaintenanceFailed
            | Self::CheckFailed
            | Self::NotReady => "Warning",
        }
    }
}

/// The object that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSubject {
    /// Kind, such as `MetadataBackupPolicy`.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID, without which `kubectl describe` does not show the event.
    pub uid: String,
}

/// The event of this reason for this run (the UID of its Job, or another key that names the occasion).
///
/// Its name follows from subject, run and reason: creating it twice gives `AlreadyExists`, which means that it is there.
/// A message that is too long for the API server is cut.
#[must_use]
pub fn event_for(
    subject: &EventSubject,
    reason: EventReason,
    run: &str,
    message: &str,
    component: &str,
    now: Timestamp,
) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{run}.{}", subject.name, reason.as_str().to_ascii_lowercase())),
            namespace: Some(subject.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(format!("{GROUP}/{VERSION}")),
            kind: Some(subject.kind.to_owned()),
            name: Some(subject.name.clone()),
            namespace: Some(subject.namespace.clone()),
            uid: Some(subject.uid.clone()),
            ..ObjectReference::default()
        },
        reason: Some(reason.as_str().to_owned()),
        message: Some(shorten(message, MESSAGE_MAX)),
        type_: Some(reason.event_type().to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(component.to_owned()), host: None }),
        reporting_component: Some(component.to_owned()),
        ..Event::default()
    }
}

/// The text, or its beginning and an ellipsis if it has more than `max` bytes.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max.saturating_sub(ELLIPSIS.len()));
    format!("{}{ELLIPSIS}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_run_and_reason_give_the_same_name_whoever_writes_it() {
        let subject = EventSubject {
            kind: "MetadataBackupPolicy",
            namespace: "kubedr-system".into(),
            name: "daily".into(),
            uid: "u".into(),
        };
        let name = |by, second| {
            let now = Timestamp::from_second(second).unwrap();
            event_for(&subject, EventReason::BackupFailed, "3f2c", "m", by, now).metadata.name.unwrap()
        };
        assert_eq!(name("operator", 1), name("job", 2));
        assert_eq!(name("job", 1), "daily.3f2c.backupfailed");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = shorten(&"ä".repeat(600), MESSAGE_MAX);
        assert!(cut.len() <= MESSAGE_MAX && cut.ends_with('…'));
        assert_eq!(shorten("short", MESSAGE_MAX), "short");
    }
}

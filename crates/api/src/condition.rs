//! Conditions: types and reasons as enums, and the one way to set them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Types of conditions in our statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// The object does what it is for.
    Ready,
    /// Location: the storage answered and the password opened the repository when it was last looked at.
    Available,
    /// Location: every backup in the repository has its record, and every record its snapshot.
    CatalogComplete,
    /// Record: its snapshot is gone from the repository.
    SnapshotDeleted,
}

impl ConditionType {
    /// As written in `status.conditions[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::CatalogComplete => "CatalogComplete",
            Self::SnapshotDeleted => "SnapshotDeleted",
        }
    }
}

/// Reasons of conditions in our statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionReason {
    /// Location: the repository is initialised and opens with the password.
    Initialized,
    /// Location: an init job runs or is about to.
    Initializing,
    /// Location: the last try failed; the message says when the next one is.
    InitFailed,
    /// Policy: the CronJob is in place.
    Scheduled,
    /// Policy: the CronJob is in place and suspended, as the specification asks.
    Suspended,
    /// Policy: `spec.destination` names no location of this namespace.
    LocationNotFound,
    /// Policy: the location is not initialised.
    LocationNotReady,
    /// Policy: the API server did not take the CronJob.
    CronJobRefused,
    /// Policy: the location is read-only.
    LocationReadOnly,
    /// Location: the storage answers and the password opens the repository.
    Reachable,
    /// Location: it could not be looked at; the message says why.
    ValidationFailed,
    /// Location: the job that was to look at it could not, so that nothing is known of the storage; the message says why.
    NotValidated,
    /// Location: a snapshot could not be read, so that it is not known whether it is a backup, or a damaged one.
    SnapshotUnreadable,
    /// Location: records and snapshots agree.
    UpToDate,
    /// Location: more records than may be true would have to go, or the repository is another one; none was removed.
    RemovalsWithheld,
    /// Location: a backup has no record because one of another location has its name.
    RecordNameTaken,
    /// Location: records stand for no backup in the repository that it leads to now.
    RecordsWithoutSnapshot,
    /// Record: its snapshot was deleted because the record is.
    Deleted,
    /// Record: its snapshot was not in the repository any more.
    Missing,
    /// The object cannot be read: it does not fit the schema.
    Invalid,
}

impl ConditionReason {
    /// As written in `status.conditions[].reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialized => "Initialized",
            Self::Initializing => "Initializing",
            Self::InitFailed => "InitFailed",
            Self::Scheduled => "Scheduled",
            Self::Suspended => "Suspended",
            Self::LocationNotFound => "LocationNotFound",
            Self::LocationNotReady => "LocationNotReady",
            Self::CronJobRefused => "CronJobRefused",
            Self::LocationReadOnly => "LocationReadOnly",
            Self::Reachable => "Reachable",
            Self::ValidationFailed => "ValidationFailed",
            Self::NotValidated => "NotValidated",
            Self::SnapshotUnreadable => "SnapshotUnreadable",
            Self::UpToDate => "UpToDate",
            Self::RemovalsWithheld => "RemovalsWithheld",
            Self::RecordNameTaken => "RecordNameTaken",
            Self::RecordsWithoutSnapshot => "RecordsWithoutSnapshot",
            Self::Deleted => "Deleted",
            Self::Missing => "Missing",
            Self::Invalid => "Invalid",
        }
    }

    /// Whether the condition is true for this reason.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(
            self,
            Self::Initialized
                | Self::Scheduled
                | Self::Suspended
                | Self::Reachable
                | Self::UpToDate
                | Self::Deleted
                | Self::Missing
        )
    }
}

/// Sets the condition of this type; its transition time changes only when its status does.
///
/// Returns whether status or reason changed: that is when an event is due.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: ConditionType,
    reason: ConditionReason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let status = match reason {
        ConditionReason::NotValidated => "Unknown",
        _ if reason.is_good() => "True",
        _ => "False",
    };
    let old = conditions.iter().position(|c| c.type_ == type_.as_str()).map(|at| conditions.remove(at));
    let changed = old.as_ref().is_none_or(|c| c.status != status || c.reason != reason.as_str());
    let last_transition_time = match old {
        Some(c) if c.status == status => c.last_transition_time,
        _ => Time(now),
    };
    conditions.push(Condition {
        last_transition_time,
        message: message.to_owned(),
        observed_generation: generation,
        reason: reason.as_str().to_owned(),
        status: status.to_owned(),
        type_: type_.as_str().to_owned(),
    });
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_transition_time_stays_while_the_status_stays() {
        let mut all = Vec::new();
        let ready = ConditionType::Ready;
        assert!(set_condition(&mut all, ready, ConditionReason::LocationNotFound, "a", Some(1), at(1)));
        assert!(!set_condition(&mut all, ready, ConditionReason::LocationNotFound, "b", Some(2), at(2)));
        assert!(set_condition(&mut all, ready, ConditionReason::LocationNotReady, "c", Some(2), at(3)));
        assert_eq!((all.len(), &all[0].last_transition_time), (1, &Time(at(1))));
        assert!(set_condition(&mut all, ready, ConditionReason::Scheduled, "d", Some(2), at(4)));
        assert_eq!((all[0].status.as_str(), &all[0].last_transition_time), ("True", &Time(at(4))));
    }
}

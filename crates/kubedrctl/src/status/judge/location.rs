//! How a location stands.

use jiff::Timestamp;
use kube::{ResourceExt, api::DynamicObject};
use kubedr_api::{
    BackupLocation, CheckOutcome, ConditionReason, ConditionType, is_check_overdue, is_look_overdue,
    names::label,
};
use serde::Serialize;

use super::{condition, count, not_ready, time, typed};
use crate::status::render::ago;

/// How a location stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocationStatus {
    /// Its name.
    pub name: String,
    /// In one word.
    pub state: LocationState,
    /// The repository in restic's notation.
    pub repository: String,
    /// When the repository was last looked at.
    pub last_validation: Option<Timestamp>,
    /// When it was last checked.
    pub last_check: Option<Timestamp>,
    /// Snapshots in it when it was last looked at, whoever made them.
    pub snapshots: Option<i64>,
    /// Records of it.
    pub records: usize,
    /// Snapshots that are to be deleted and could not be yet.
    pub pending_deletions: usize,
    /// What is wrong, and what to do.
    pub problems: Vec<String>,
}

/// How a location stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LocationState {
    /// As it should.
    Ok,
    /// It is being initialised.
    Initializing,
    /// It is not initialised.
    NotReady,
    /// The storage did not answer when it was last asked.
    Unavailable,
    /// The last check has found damage.
    Damaged,
    /// Records and snapshots do not agree.
    Incomplete,
    /// It was not looked at, or not checked, in time.
    Overdue,
}

impl LocationState {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Initializing => "new",
            Self::NotReady => "NOT READY",
            Self::Unavailable => "UNAVAILABLE",
            Self::Damaged => "DAMAGED",
            Self::Incomplete => "INCOMPLETE",
            Self::Overdue => "OVERDUE",
        }
    }
}

/// How this location stands, with its records among these.
pub fn judge(
    object: &DynamicObject,
    namespace: &str,
    records: &[DynamicObject],
    now: Timestamp,
) -> LocationStatus {
    let name = object.name_any();
    let mut told = LocationStatus {
        state: LocationState::NotReady,
        repository: String::new(),
        last_validation: None,
        last_check: None,
        snapshots: None,
        records: count(records, "backuploc", &name),
        pending_deletions: 0,
        problems: Vec::new(),
        name,
    };
    let location: BackupLocation = match typed(object) {
        Ok(location) => location,
        Err(problem) => return LocationStatus { problems: vec![problem], ..told },
    };
    let status = location.status.clone().unwrap_or_default();
    told.repository = location.spec.repository_url();
    told.last_validation = time(status.last_validation_time.as_deref());
    told.last_check = time(status.last_check.as_ref().map(|check| check.time.as_str()));
    told.snapshots = status.snapshots;
    told.pending_deletions = status.pending_deletions.len();
    let ready = condition(&status.conditions, ConditionType::Ready);
    if ready.is_some_and(|ready| ready.reason == ConditionReason::Initializing.as_str()) {
        return LocationStatus { state: LocationState::Initializing, ..told };
    }
    if let Some(problem) = not_ready(&status.conditions, object, now) {
        told.problems.push(problem);
        return told;
    }
    if ready.is_none() {
        return LocationStatus { state: LocationState::Initializing, ..told };
    }
    told.state = LocationState::Ok;
    // The worst word first.
    let bad = |type_| condition(&status.conditions, type_).filter(|c| c.status != "True");
    let damage = status.last_check.filter(|check| check.result == CheckOutcome::Failed);
    let unavailable = bad(ConditionType::Available).map(|c| c.message.clone());
    // Of a storage that does not answer it is known why it was not looked at.
    let looked = late_look(&location, &told, namespace, now).filter(|_| unavailable.is_none());
    let checked = late_check(&location, &told, namespace, now);
    let found = [
        (LocationState::Unavailable, unavailable),
        (LocationState::Damaged, damage.map(|check| format!("the last check has failed: {}", check.message))),
        (LocationState::Incomplete, bad(ConditionType::CatalogComplete).map(|c| c.message.clone())),
        (LocationState::Overdue, looked),
        (LocationState::Overdue, checked),
    ];
    for (state, problem) in found {
        let Some(problem) = problem else { continue };
        if told.problems.is_empty() {
            told.state = state;
        }
        told.problems.push(problem);
    }
    told
}

/// That a look at the repository was due and did not come.
fn late_look(
    location: &BackupLocation,
    told: &LocationStatus,
    namespace: &str,
    now: Timestamp,
) -> Option<String> {
    is_look_overdue(location, now).filter(|late| *late)?;
    Some(format!(
        "{} and one is due every {}: see `kubectl -n {namespace} get jobs,pods -l {}={}`",
        last("look at it", told.last_validation, now),
        location.spec.validation_frequency,
        label::LOCATION,
        told.name
    ))
}

/// That a check of the repository was due and did not come.
fn late_check(
    location: &BackupLocation,
    told: &LocationStatus,
    namespace: &str,
    now: Timestamp,
) -> Option<String> {
    is_check_overdue(location, now).filter(|late| *late)?;
    Some(format!(
        "{} and one is due every week: see `kubectl -n {namespace} get events --field-selector involvedObject.name={}`",
        last("check of it", told.last_check, now),
        told.name
    ))
}

fn last(what: &str, time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(
        || format!("there was no {what} yet"),
        |time| format!("the last {what} was {}", ago(time, now)),
    )
}

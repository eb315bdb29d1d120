//! What the objects of a cluster say about its backups, and what is wrong.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{ResourceExt, api::DynamicObject};
use kubedr_api::{
    BackupLocation, CheckOutcome, ConditionReason, ConditionType, MetadataBackupPolicy, Phase, Timetable,
    names::cron_job_name,
};
use serde::{Serialize, de::DeserializeOwned};

/// How late a backup may begin: what the alert of the chart allows, too.
const GRACE: SignedDuration = SignedDuration::from_mins(10);
/// By how much the clock of the node on which a run began may be behind.
const CLOCKS: SignedDuration = SignedDuration::from_mins(1);
/// Within this the operator has looked at a new object.
const NEW: SignedDuration = SignedDuration::from_mins(1);

/// What was found in a namespace.
pub struct Facts {
    /// The namespace.
    pub namespace: String,
    /// Policies, as they are.
    pub policies: Vec<DynamicObject>,
    /// Locations, as they are.
    pub locations: Vec<DynamicObject>,
    /// Records, as they are.
    pub records: Vec<DynamicObject>,
    /// Deployments of the operator, if they may be seen.
    pub operator: Option<Vec<Deployment>>,
}

/// How the backups of a namespace stand.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The namespace.
    pub namespace: String,
    /// When this was found out.
    pub time: Timestamp,
    /// Whether nothing is wrong.
    pub healthy: bool,
    /// The operator.
    pub operator: OperatorState,
    /// What is wrong with neither a policy nor a location.
    pub problems: Vec<String>,
    /// The policies, by name.
    pub policies: Vec<PolicyStatus>,
    /// The locations, by name.
    pub locations: Vec<LocationStatus>,
    /// Records, of whatever policy.
    pub records: usize,
}

/// Whether an operator serves the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum OperatorState {
    /// It does.
    Ready,
    /// There is one, which is not ready.
    NotReady,
    /// There is none.
    Missing,
    /// Who asks may not know.
    Unknown,
}

/// How a policy stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Its name.
    pub name: String,
    /// In one word.
    pub state: PolicyState,
    /// When its last successful backup was done.
    pub last_success: Option<Timestamp>,
    /// The record of that backup.
    pub record: Option<String>,
    /// When the next backup begins.
    pub next_run: Option<Timestamp>,
    /// Its records.
    pub records: usize,
    /// The location.
    pub location: String,
    /// What is wrong, and what to do.
    pub problems: Vec<String>,
}

/// How a policy stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PolicyState {
    /// As it should.
    Ok,
    /// A backup runs.
    Running,
    /// No backup was due yet.
    New,
    /// It is paused, as its specification asks.
    Paused,
    /// The last backup failed.
    Failed,
    /// No backup has begun although one was due.
    Overdue,
    /// No backup can begin.
    NotReady,
}

impl PolicyState {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Running => "running",
            Self::New => "new",
            Self::Paused => "paused",
            Self::Failed => "FAILED",
            Self::Overdue => "OVERDUE",
            Self::NotReady => "NOT READY",
        }
    }
}

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
    /// Snapshots in it, whoever made them.
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
        }
    }
}

/// How the backups stand, now.
pub fn judge(facts: &Facts, now: Timestamp) -> Status {
    let Facts { namespace, policies, locations, records, operator } = facts;
    let mut policies: Vec<_> =
        policies.iter().map(|object| policy(object, namespace, records, now)).collect();
    policies.sort_by(|a, b| a.name.cmp(&b.name));
    let mut locations: Vec<_> = locations.iter().map(|object| location(object, records, now)).collect();
    locations.sort_by(|a, b| a.name.cmp(&b.name));
    let (operator, mut problems) = self::operator(operator.as_deref(), namespace);
    if policies.is_empty() {
        problems.push(format!(
            "there is no policy in namespace `{namespace}`: nothing is backed up; make one, or choose another `--namespace`"
        ));
    }
    let all = policies.iter().map(|p| &p.problems).chain(locations.iter().map(|l| &l.problems));
    let healthy = problems.is_empty() && all.into_iter().all(Vec::is_empty);
    let (namespace, records) = (namespace.clone(), records.len());
    Status { namespace, time: now, healthy, operator, problems, policies, locations, records }
}

fn operator(deployments: Option<&[Deployment]>, namespace: &str) -> (OperatorState, Vec<String>) {
    let Some(deployments) = deployments else { return (OperatorState::Unknown, Vec::new()) };
    let is_ready = |deployment: &Deployment| {
        deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0) > 0
    };
    let what_to_do = "backups go on by schedule, but nothing here is kept up to date";
    if deployments.is_empty() {
        let problem = format!(
            "no operator is installed in namespace `{namespace}`: {what_to_do}; install the chart, or choose another `--namespace`"
        );
        return (OperatorState::Missing, vec![problem]);
    }
    if deployments.iter().any(is_ready) {
        return (OperatorState::Ready, Vec::new());
    }
    let problem = format!(
        "the operator does not run: {what_to_do}; see `kubectl -n {namespace} describe pods -l app.kubernetes.io/component=operator`"
    );
    (OperatorState::NotReady, vec![problem])
}

fn policy(
    object: &DynamicObject,
    namespace: &str,
    records: &[DynamicObject],
    now: Timestamp,
) -> PolicyStatus {
    let name = object.name_any();
    let mut told = PolicyStatus {
        state: PolicyState::NotReady,
        last_success: None,
        record: None,
        next_run: None,
        records: count(records, "policy", &name),
        location: String::new(),
        problems: Vec::new(),
        name,
    };
    let policy: MetadataBackupPolicy = match typed(object) {
        Ok(policy) => policy,
        Err(problem) => return PolicyStatus { problems: vec![problem], ..told },
    };
    let status = policy.status.clone().unwrap_or_default();
    told.location.clone_from(&policy.spec.destination);
    told.last_success = time(status.last_successful_time.as_deref());
    told.record.clone_from(&status.mbr_name);
    let paused = policy.spec.suspend;
    if let Some(problem) = not_ready(&status.conditions, object, now) {
        told.problems.push(problem);
        return told;
    }
    if paused {
        return PolicyStatus { state: PolicyState::Paused, ..told };
    }
    let due = Due::of(&policy);
    told.next_run = due.as_ref().and_then(|due| due.timetable.next_due(due.since, now));
    told.state = match status.backup_status {
        Some(Phase::Initializing) => PolicyState::Running,
        Some(Phase::Completed) => PolicyState::Ok,
        Some(Phase::Failed) => PolicyState::Failed,
        None => PolicyState::New,
    };
    if told.state == PolicyState::Failed {
        let message = status.backup_error_message.filter(|text| !text.is_empty());
        let message = message.unwrap_or_else(|| "nobody said why; see the log of its pod".to_owned());
        let ago =
            time(status.backup_time.as_deref()).map(|time| format!(" {}", super::render::ago(time, now)));
        told.problems.push(format!("the last backup failed{}: {message}", ago.unwrap_or_default()));
    }
    let failures = status.totals.as_ref().map_or(0, |totals| totals.consecutive_failures);
    if told.state == PolicyState::Running && failures > 0 {
        told.problems.push(format!("backups that failed since the last success: {failures}; one runs now"));
    }
    if told.state != PolicyState::Running
        && let Some(missed) = due.and_then(|due| due.missed(now))
    {
        if told.state != PolicyState::Failed {
            told.state = PolicyState::Overdue;
        }
        told.problems.push(format!(
            "a backup was due {} and none has begun: see `kubectl -n {namespace} describe cronjob {}`",
            super::render::ago(missed, now),
            cron_job_name(&told.name)
        ));
    }
    told
}

/// When backups are due.
struct Due {
    timetable: Timetable,
    /// Since when the schedule counts, or when the last run began.
    since: Timestamp,
    /// How late a backup may begin.
    grace: SignedDuration,
}

impl Due {
    fn of(policy: &MetadataBackupPolicy) -> Option<Self> {
        let (spec, status) = (&policy.spec, policy.status.as_ref());
        let timetable = Timetable::new(&spec.schedule, spec.time_zone.as_deref()).ok()?;
        let may_wait = SignedDuration::from_secs(spec.starting_deadline_seconds.unwrap_or_default().max(0));
        let began = status.and_then(|status| status.last_run.as_ref());
        let began =
            time(began.map(|run| run.start_time.as_str())).and_then(|time| time.checked_add(CLOCKS).ok());
        let created = policy.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let active = status.and_then(|status| status.active_schedule.as_ref());
        let since = time(active.map(|active| active.since.as_str())).or(created);
        Some(Self { timetable, since: began.max(since)?, grace: GRACE.saturating_add(may_wait) })
    }

    /// When a backup was due that should have begun by now and has not.
    fn missed(&self, now: Timestamp) -> Option<Timestamp> {
        self.timetable.last_due(self.since, now.checked_sub(self.grace).ok()?)
    }
}

fn location(object: &DynamicObject, records: &[DynamicObject], now: Timestamp) -> LocationStatus {
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
    let status = location.status.unwrap_or_default();
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
    let found = [
        (LocationState::Unavailable, bad(ConditionType::Available).map(|c| c.message.clone())),
        (LocationState::Damaged, damage.map(|check| format!("the last check has failed: {}", check.message))),
        (LocationState::Incomplete, bad(ConditionType::CatalogComplete).map(|c| c.message.clone())),
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

/// Why the condition `Ready` is not true. Of a new object nothing is said yet.
fn not_ready(conditions: &[Condition], object: &DynamicObject, now: Timestamp) -> Option<String> {
    match condition(conditions, ConditionType::Ready) {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(ready.message.clone()),
        None => {
            let created = object.metadata.creation_timestamp.as_ref()?.0;
            (now.duration_since(created) > NEW)
                .then(|| "the operator has not looked at it: look whether it runs".to_owned())
        }
    }
}

fn condition(conditions: &[Condition], type_: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

fn count(records: &[DynamicObject], field: &str, name: &str) -> usize {
    records.iter().filter(|record| record.data["spec"][field] == name).count()
}

fn typed<K: DeserializeOwned>(object: &DynamicObject) -> Result<K, String> {
    let typed = serde_json::to_value(object).and_then(serde_json::from_value);
    typed.map_err(|error| format!("the object does not fit the schema: {error}; correct it or delete it"))
}

/// A time; KubeDR 0.x wrote free text, which is none.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

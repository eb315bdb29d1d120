//! The `kubedr.catalogicsoftware.com/v1alpha1` API.
//!
//! This crate holds what the operator, the job and an admin's tools have to agree on, and nothing that acts: the four
//! kinds with their schemas, defaults and validation rules (all of them in the CRD, so the API server enforces them and
//! no webhook is needed), every name that occurs more than once, conditions, the rule by which a run's outcome reaches a
//! policy's status, events, what should have happened by now, and the environment by which the operator tells a job what to do.
//!
//! What it guarantees:
//! - names that users of KubeDR 0.x rely on are spelled as they were; times that KubeDR wrote as free text stay strings;
//! - a success that was written for a run is never replaced by a later word about that same run ([`RunReport::merge`]);
//! - one run yields one event per reason, whoever writes it ([`event_for`]).

mod backup_location;
mod condition;
#[cfg(test)]
mod documented;
mod event;
mod init_report;
mod metadata_backup_policy;
mod metadata_backup_record;
mod metadata_restore;
pub mod names;
mod overdue;
mod restore_report;
mod run;
mod run_pod;
mod schedule;
pub mod task;
mod timetable;
mod totals;

pub use backup_location::{
    AccessMode, BackupLocation, BackupLocationSpec, BackupLocationStatus, CaCertKey, CaCertSource,
    CheckOutcome, CheckResult, PendingDeletion, PruneResult, VolumeTarget,
};
pub use condition::{ConditionReason, ConditionType, set_condition};
pub use event::{EventReason, EventSubject, event_for, shorten};
pub use init_report::{InitOutcome, InitReport, init_status_patch};
pub use metadata_backup_policy::{
    ActiveSchedule, DEFAULT_ETCD_CREDS, DEFAULT_ETCD_ENDPOINT, DEFAULT_RETAIN_NUM_BACKUPS,
    MetadataBackupPolicy, MetadataBackupPolicySpec, MetadataBackupPolicyStatus, OPTION_MASTER_NODE_LABEL,
    Retention,
};
pub use metadata_backup_record::{
    MetadataBackupRecord, MetadataBackupRecordSpec, MetadataBackupRecordStatus, Origin, record_name,
    short_snapshot_id,
};
pub use metadata_restore::{MetadataRestore, MetadataRestoreSpec, MetadataRestoreStatus};
pub use overdue::{check_due, is_check_overdue, is_look_overdue, missed_backup, next_backup};
pub use restore_report::{RestoreFigures, RestoreOutcome, RestoreReport, restore_status_patch};
pub use run::{LastRun, Phase, RunFigures, RunIdentity, RunOutcome, RunReport, run_status_patch};
pub use timetable::{Timetable, TimetableError};
pub use totals::{BackupEnd, BackupSize, BackupTotals, DURATION_BUCKETS};

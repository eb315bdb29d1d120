//! The operator: turns `BackupLocation`s and `MetadataBackupPolicy`s into jobs, and tells what became of them.
//!
//! What it guarantees:
//! - **It tells the truth about every run.** A job that dies or cannot start without reporting is told as `Failed` with
//!   its reason, in the status and in one event, within 30 seconds of the fact. A success that the job has written is
//!   never overwritten: each write is decided on a fresh read and refused by the API server if that has gone stale.
//! - **It deletes a snapshot only because its record was deleted**, by retention or by hand. Which ones it tells the job one by
//!   one, after a look at namespace and CRD: what goes with them stays in the repository.
//! - **It holds no state.** All it knows is in the cluster; killed at any point and started again it goes on. What it has
//!   told is noted on the Job.
//! - **It reads no secret.** Of Secrets it watches the metadata; their content goes from the API server to the pods.
//! - **It serves its own namespace only**, and two replicas are safe ([`leader`]).
//!
//! How it is made: `controllers::<kind>::decide` and `build` are pure and hold the rules, `controllers::<kind>` reads,
//! decides and performs, [`failure`] turns what the cluster shows of a Job into a reason, `report` and `standing` write.
//!
//! # Rights
//! In its namespace (Role):
//!
//! | group | resource | verbs | for |
//! |---|---|---|---|
//! | kubedr.catalogicsoftware.com | backuplocations | get list watch patch | reading; annotations, legacy finalizer |
//! | | backuplocations/status | patch | outcome of jobs, conditions, pending deletions |
//! | | metadatabackuppolicies | get list watch patch | reading; legacy finalizer, which backup is counted |
//! | | metadatabackuppolicies/status | patch | outcome of failed runs, conditions, totals |
//! | | metadatarestores | get list watch | reading |
//! | | metadatarestores/status | patch | outcome of restores that failed |
//! | | metadatabackuprecords | get list watch patch delete | reading, and what a restore names; finalizer; retention |
//! | batch | cronjobs | get list watch create patch | one for each policy |
//! | | jobs | get list watch create patch delete | init and maintenance jobs; following runs; ending what cannot start |
//! | (core) | pods | list watch | why a job failed or does not start; who uses a claim |
//! | | persistentvolumeclaims | get | what a restore or a location names |
//! | | events | list create | the same; telling |
//! | | secrets configmaps | list watch | metadata only: which version a location has |
//! | coordination.k8s.io | leases | create | leader election |
//! | | leases `kubedr-operator` | get update | |
//!
//! In the cluster (`ClusterRole`): get namespace `kube-system`, whose UID marks the snapshots; get the own namespace and the CRD
//! of records, which must not be on their way out when a snapshot is deleted; get nodes, metadata only: whether the one is still
//! there that has a location's volume; list and patch records, in whatever namespace, since RBAC cannot name one here: where all that a
//! deleted namespace holds goes at once, its Role may be gone before the finalizers are off its records.
//!
//! `kubedr-operator release`, in its namespace (Role `kubedr-uninstall`, there while `helm uninstall` runs it):
//!
//! | group | resource | verbs | for |
//! |---|---|---|---|
//! | apps | deployments `kubedr-operator` | delete | ending the operator |
//! | (core) | pods | list | whether it is gone |
//! | kubedr.catalogicsoftware.com | metadatabackuprecords | list patch | the finalizer |

mod admin;
mod api_call;
mod args;
mod context;
mod controllers;
mod destination;
mod failure;
mod job_settings;
mod leader;
mod logging;
mod metrics;
mod occasion;
mod owner;
mod placement;
mod pod;
mod readiness;
mod release;
mod report;
mod retention;
mod serve;
mod standing;

pub use args::{Args, Command, LogFormat};
pub use job_settings::{JobSettings, JobSettingsError, PlainVariable};
pub use logging::start as start_log;
pub use release::{ReleaseError, release};
pub use serve::{ServeError, serve};

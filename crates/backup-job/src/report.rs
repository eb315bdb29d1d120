//! Who is told what becomes of a run.

mod backup;
mod forget;
mod init;
mod kube_api;
mod location;
mod neighbours;
mod nobody;
mod record_gone;
mod restore;
mod subject;
mod sync;

pub use backup::BackupReporter;
pub use forget::ForgetReporter;
pub use init::InitReporter;
pub use kube_api::KubeApi;
pub use neighbours::Pods;
pub use nobody::Nobody;
pub use restore::RestoreReporter;
pub use subject::Subject;
pub use sync::SyncReporter;

#[cfg(test)]
mod tests;

//! Who is told what becomes of a run.

mod backup;
mod init;
mod kube_api;
mod nobody;
mod restore;

pub use backup::BackupReporter;
pub use init::InitReporter;
pub use kube_api::KubeApi;
pub use nobody::Nobody;
pub use restore::RestoreReporter;

#[cfg(test)]
mod tests;

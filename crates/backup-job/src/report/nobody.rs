//! Without a cluster nobody is told; the summary on stdout says it all.

use kubedr_repo::{PruneReport, SnapshotId};

use crate::{
    Failure, Progress,
    drive::{Patience, Reporter, Word},
};

/// Tells nobody.
#[derive(Debug)]
pub struct Nobody;

impl<D: Sync> Reporter<D> for Nobody {
    async fn tell(&self, _: &Word<D>, _: Patience) -> Result<(), String> {
        Ok(())
    }
}

impl Progress for Nobody {
    async fn deleted(&self, _: &str, _: &[SnapshotId]) -> Result<(), Failure> {
        Ok(())
    }

    async fn pruned(&self, _: &PruneReport) -> Result<(), Failure> {
        Ok(())
    }

    async fn checked(&self, _: Option<&str>) -> Result<(), Failure> {
        Ok(())
    }
}

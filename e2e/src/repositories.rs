//! The repositories that a test leaves, in the eyes of stock restic.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{Case, Cluster, passes_unlocked, seconds, until};

impl Case {
    /// The ids of the locks in the repository at the root of this test's bucket.
    pub fn locks(&self) -> Result<Vec<String>> {
        ids(&self.cluster().bucket_dir(self.name()), "locks")
    }

    /// The ids of the snapshots in the repository at the root of this test's bucket.
    pub fn snapshots(&self) -> Result<Vec<String>> {
        ids(&self.cluster().bucket_dir(self.name()), "snapshots")
    }

    /// Fails unless stock restic finds every repository sound that this test has left on the S3 server.
    pub(crate) fn check_repositories(&self) -> Result<()> {
        for bucket in entries(self.cluster().buckets())? {
            if !bucket.starts_with(self.name()) {
                continue;
            }
            for repository in repositories(self.cluster(), &bucket)? {
                let restic = self.cluster().restic(&repository, &self.password());
                let dir = self.cluster().bucket_dir(&repository);
                until("the last job gives its lock back", seconds(90), || {
                    let left = ids(&dir, "locks")?;
                    ensure!(left.is_empty(), "{repository}: {left:?}");
                    Ok(())
                })?;
                passes_unlocked(&restic, &["check", "--read-data"])
                    .with_context(|| format!("the repository {repository} that is left"))?;
            }
        }
        Ok(())
    }
}

/// The ids of the files of one kind in a repository, sorted. They are read from the server's disk: each call of restic takes a
/// processor for half a second. That restic can read them is what the check at the end of each test shows.
pub fn ids(repository: &Path, kind: &str) -> Result<Vec<String>> {
    let mut ids = entries(&repository.join(kind))?;
    ids.sort();
    Ok(ids)
}

/// The repositories in a bucket, as paths that begin with it: at its root or below a prefix.
fn repositories(cluster: &Cluster, bucket: &str) -> Result<Vec<String>> {
    let (mut found, mut open) = (Vec::new(), vec![PathBuf::from(bucket)]);
    while let Some(path) = open.pop() {
        let dir = cluster.bucket_dir(&path.display().to_string());
        if dir.join("config").exists() && dir.join("keys").exists() {
            found.push(path.display().to_string());
        } else {
            open.extend(
                entries(&dir)?.into_iter().filter(|name| dir.join(name).is_dir()).map(|name| path.join(name)),
            );
        }
    }
    Ok(found)
}

/// Names of what is in a directory; none if it does not exist.
fn entries(dir: &Path) -> Result<Vec<String>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

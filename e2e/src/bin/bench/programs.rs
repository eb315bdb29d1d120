//! Our job and stock restic, each on a bucket.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use kubedr_testing::{S3Server, tool};

pub const PASSWORD: &str = "bench";

/// The job's binary, of the same build as this one.
pub fn job(s3: &S3Server, bucket: &str, subcommand: &str) -> Result<Command> {
    let this = std::env::current_exe()?;
    let program = this.parent().context("a program is in a directory")?.join("kubedr-backup-job");
    let mut job = Command::new(program);
    job.arg(subcommand)
        .stdin(Stdio::null())
        .env_clear()
        .env("KUBEDR_LOG_LEVEL", "warn")
        .env("RESTIC_REPOSITORY", s3.repository(bucket))
        .env("RESTIC_PASSWORD", PASSWORD)
        .env("AWS_ACCESS_KEY_ID", s3.access_key())
        .env("AWS_SECRET_ACCESS_KEY", s3.secret_key());
    Ok(job)
}

/// Without its cache, which a pod has not either.
pub fn restic(s3: &S3Server, bucket: &str) -> Command {
    let mut restic = Command::new(tool("restic"));
    restic.args(["--repo", &s3.repository(bucket), "--no-cache"]).stdin(Stdio::null());
    restic.envs(s3.restic(bucket, PASSWORD).environment().iter().map(|(key, value)| (key, value)));
    restic
}

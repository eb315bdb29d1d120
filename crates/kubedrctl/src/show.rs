//! `show`.

use std::fmt::Write as _;

use bytesize::ByteSize;
use serde::Serialize;

use crate::{
    answer::Answer,
    backups::{Backup, snapshot_name, utc, yes_or_no},
    failure::Failure,
    progress::Progress,
    storage::Storage,
    terminal::plain,
};

/// A backup, and where it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    /// The repository, without secrets.
    repository: String,
    /// The repository's own id.
    repository_id: String,
    #[serde(flatten)]
    backup: Backup,
}

/// Shows the backup of this name.
pub fn backup(storage: &Storage, name: &str) -> Result<Answer, Failure> {
    let progress = Progress::begin("reading the repository");
    let repository = storage.open()?;
    let snapshot = kubedr_restore::choose(&repository, &snapshot_name(name), &[])?;
    let contents = repository.contents(std::slice::from_ref(&snapshot.id))?;
    let contents = contents.into_iter().next().ok_or_else(|| {
        Failure::Unexpected(format!("the repository says nothing about the snapshot `{}`", snapshot.id))
    })??;
    drop(progress);
    if !contents.etcd {
        return Err(Failure::Repository(format!(
            "snapshot `{}` holds no etcd database: it is no backup; `kubedrctl list backups` shows those that are",
            snapshot.id
        )));
    }
    let shown = Shown {
        repository: repository.url().to_owned(),
        repository_id: repository.id().to_owned(),
        backup: Backup::new(&snapshot, contents),
    };
    Answer::new(render(&shown), &shown)
}

fn render(shown: &Shown) -> String {
    let Shown { repository, repository_id, backup } = shown;
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let lines = [
        ("Snapshot", backup.id.clone()),
        ("Record", backup.record.clone()),
        ("Time", format!("{} UTC", utc(backup.time))),
        ("Policy", text(&backup.policy)),
        ("Namespace", text(&backup.namespace)),
        ("Location", text(&backup.location)),
        ("Cluster", text(&backup.cluster)),
        ("Host", backup.host.clone()),
        ("Size", format!("{} ({} bytes)", ByteSize(backup.size), backup.size)),
        ("Certificates", yes_or_no(backup.certificates).to_owned()),
        ("Repository", repository.clone()),
        ("Repository id", repository_id.clone()),
    ];
    lines.into_iter().fold(String::new(), |mut text, (name, value)| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{name:<15}{}", plain(&value));
        text
    })
}

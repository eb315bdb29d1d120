//! `list backups`.

use std::fmt::Write as _;

use bytesize::ByteSize;
use kubedr_repo::{Error, Repository, Snapshot, SnapshotId};
use serde::Serialize;

use crate::{
    answer::Answer,
    backups::{Backup, utc, yes_or_no},
    failure::Failure,
    progress::Progress,
    storage::Storage,
    table::{Table, numbers, words},
    terminal::Screen,
};

/// Digits of a cluster's UID that a table shows.
const CLUSTER_DIGITS: usize = 8;

/// What is in a repository.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    /// The repository, without secrets.
    repository: String,
    /// The repository's own id.
    repository_id: String,
    /// Backups, oldest first.
    backups: Vec<Backup>,
    /// Snapshots that hold no etcd database.
    other_snapshots: usize,
    /// Snapshots that lack a tag which was asked for.
    without_tags: usize,
    /// The tags that were asked for.
    #[serde(skip)]
    tags: Vec<String>,
    /// Snapshots that cannot be read.
    unreadable: Vec<Unreadable>,
}

/// A snapshot that cannot be read.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Unreadable {
    id: String,
    error: String,
}

impl Unreadable {
    fn new(id: &SnapshotId, error: Error) -> Self {
        Self { id: id.to_string(), error: Failure::from(error).to_string() }
    }
}

/// Lists the backups that have all these tags.
pub fn backups(storage: &Storage, tags: &[String]) -> Result<Answer, Failure> {
    let progress = Progress::begin("reading the repository");
    let listing = look(&storage.open()?, tags)?;
    drop(progress);
    let failure = listing.failure();
    Ok(Answer::new(listing.render(Screen::stdout()), &listing)?.with_failure(failure))
}

fn look(repository: &Repository, tags: &[String]) -> Result<Listing, Failure> {
    let found = repository.listing()?;
    let has_tags = |snapshot: &Snapshot| tags.iter().all(|tag| snapshot.tags.contains(tag));
    let (snapshots, others): (Vec<_>, Vec<_>) = found.snapshots.into_iter().partition(has_tags);
    let ids: Vec<_> = snapshots.iter().map(|snapshot| snapshot.id.clone()).collect();
    let mut listing = Listing {
        repository: repository.url().to_owned(),
        repository_id: repository.id().to_owned(),
        backups: Vec::new(),
        other_snapshots: 0,
        without_tags: others.len(),
        tags: tags.to_vec(),
        unreadable: found.unreadable.into_iter().map(|(id, error)| Unreadable::new(&id, error)).collect(),
    };
    for (snapshot, contents) in snapshots.iter().zip(repository.contents(&ids)?) {
        match contents {
            Ok(contents) if contents.etcd => listing.backups.push(Backup::new(snapshot, contents)),
            Ok(_) => listing.other_snapshots += 1,
            // Deleted while this looked.
            Err(Error::NoSuchSnapshot { .. }) => {}
            Err(error) => listing.unreadable.push(Unreadable::new(&snapshot.id, error)),
        }
    }
    Ok(listing)
}

impl Listing {
    fn failure(&self) -> Option<Failure> {
        let first = self.unreadable.first()?;
        Some(Failure::Repository(format!(
            "{} of the snapshots cannot be read, the first of them `{}`: {}; `kubedrctl check` tells more",
            self.unreadable.len(),
            first.id,
            first.error
        )))
    }

    fn render(&self, screen: Screen) -> String {
        let mut text = if self.backups.is_empty() { self.no_backups() } else { self.table().render(screen) };
        if self.other_snapshots > 0 {
            let _ = writeln!(
                text,
                "\nsnapshots without an etcd database, which restic shows: {}",
                self.other_snapshots
            );
        }
        text
    }

    /// Why there is nothing to list.
    fn no_backups(&self) -> String {
        let Self { repository, unreadable, without_tags, tags, .. } = self;
        let wanted =
            if tags.is_empty() { String::new() } else { format!(" with `{}`", tags.join("` and `")) };
        let readable = if unreadable.is_empty() { "" } else { "readable " };
        let lacking = if tags.len() > 1 { "one of these tags" } else { "that tag" };
        let others = match without_tags {
            0 => String::new(),
            count => format!(
                "; snapshots that lack {lacking}: {count}; leave out `--tag` to see the backups among them"
            ),
        };
        format!("no {readable}backups{wanted} in `{repository}`{others}\n")
    }

    fn table(&self) -> Table<7> {
        let mut table = Table::new([
            words("ID", 0),
            words("TIME (UTC)", 0),
            words("POLICY", 1),
            words("CLUSTER", 4),
            words("HOST", 5),
            numbers("SIZE", 2),
            words("CERTIFICATES", 3),
        ]);
        let none = "-".to_owned();
        for backup in &self.backups {
            let cluster = backup.cluster.as_ref().unwrap_or(&none);
            table.push([
                kubedr_api::short_snapshot_id(&backup.id).into(),
                utc(backup.time).into(),
                backup.policy.as_ref().unwrap_or(&none).into(),
                cluster.get(..CLUSTER_DIGITS).unwrap_or(cluster).into(),
                (&backup.host).into(),
                ByteSize(backup.size).to_string().into(),
                yes_or_no(backup.certificates).into(),
            ]);
        }
        table
    }
}

//! `restore`.

use std::fmt::Write as _;
use std::path::PathBuf;

use bytesize::ByteSize;
use kubedr_restore::{Existing, Request, RestoreDone, Stop, Unfinished, refuse_existing};

use crate::{
    answer::Answer,
    backups::{snapshot_name, utc},
    failure::Failure,
    progress::Progress,
    run::blocking,
    storage::Storage,
    terminal::plain,
};

/// What to restore, and to where.
pub struct Wanted {
    /// Id or name of the backup.
    pub name: String,
    /// Tags that it must have.
    pub tags: Vec<String>,
    /// Directory that gets `data`.
    pub target: PathBuf,
    /// What becomes of a `data` that is there.
    pub existing: Existing,
}

/// Brings a backup back. What it has written is cleared away when this is dropped half-way.
pub async fn restore(storage: Storage, wanted: Wanted) -> Result<Answer, Failure> {
    let stop = Stop::default();
    let unfinished = Unfinished::new(stop.clone());
    let answer = blocking(move || bring_back(&storage, wanted, stop)).await;
    unfinished.ended();
    answer
}

/// A target that is in use is refused before anything is asked of the repository.
fn bring_back(storage: &Storage, wanted: Wanted, stop: Stop) -> Result<Answer, Failure> {
    let Wanted { name, tags, target, existing } = wanted;
    refuse_existing(existing, &target)?;
    let progress = Progress::begin("opening the repository");
    let repository = storage.open()?;
    let watch = Some(progress.watch("restoring"));
    let request = Request { snapshot: snapshot_name(&name), tags, target, existing, watch, stop };
    let done = kubedr_restore::restore(&repository, &request)?;
    drop(progress);
    Answer::new(render(&done), &done)
}

fn render(done: &RestoreDone) -> String {
    let policy = done.tags.iter().find_map(|tag| tag.strip_prefix("policy="));
    let policy = policy.map(|policy| format!(", policy {}", plain(policy))).unwrap_or_default();
    let database = done.etcd_snapshot.display();
    let mut text = format!(
        "restored {} of {} UTC{policy}: {} in {} files\n  {database}\n",
        kubedr_api::short_snapshot_id(&done.snapshot_id),
        utc(done.time),
        ByteSize(done.bytes),
        done.files
    );
    if let Some(certificates) = &done.certificates {
        let _ = writeln!(text, "  {}/", certificates.display());
    }
    if !done.metadata_not_set.is_empty() {
        let _ = writeln!(text, "note: {}", done.warning());
    }
    text + &format!(
        "next, on each etcd member: etcdutl snapshot restore {database} --data-dir NEW-DIR --bump-revision 1000000000 \
         --mark-compacted\n"
    )
}

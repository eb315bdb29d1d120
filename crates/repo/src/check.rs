//! Is everything there that the snapshots need?

use std::sync::Arc;

use rustic_core::{CheckOptions, CheckResults, RusticError, TreeId};
use serde::Serialize;

use crate::{
    Error, ErrorClass, Repository, Watch,
    backend::{StorageError, failure_chain, one_line},
    error::{engine_words, find, read_engine},
    progress::MeteredStorage,
    snapshot::{self, Files},
};

/// How much a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// Index, trees, and that every pack exists with the right size.
    Structure,
    /// Also every byte of every pack.
    ReadData,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Damage: something that a snapshot needs, or a snapshot itself, is missing or changed.
    pub errors: Vec<String>,
    /// Oddities that harm no snapshot, such as packs that no index names after an interrupted backup.
    pub warnings: Vec<String>,
}

impl CheckReport {
    /// Whether every snapshot can be restored, as far as the check has read.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }
}

pub(crate) fn run(
    repository: &Repository,
    depth: CheckDepth,
    watch: Option<&Watch>,
) -> Result<CheckReport, Error> {
    damage_as_finding(check(repository, depth, watch))
}

/// An error says that nobody could look. Damage that nobody could look behind is still damage.
fn damage_as_finding(checked: Result<CheckReport, Error>) -> Result<CheckReport, Error> {
    match checked {
        Err(error) if error.class() == ErrorClass::Integrity => {
            Ok(CheckReport { errors: vec![error.detail()], warnings: Vec::new() })
        }
        checked => checked,
    }
}

fn check(repository: &Repository, depth: CheckDepth, watch: Option<&Watch>) -> Result<CheckReport, Error> {
    let Files { read, mut unreadable } = snapshot::files(repository, &repository.engine()?)?;
    if let Some(at) = unreadable.iter().position(|(_, cause)| !is_damage(cause)) {
        return Err(unreadable.swap_remove(at).1);
    }
    let trees: Vec<TreeId> = read.into_iter().map(|file| file.tree).collect();
    let mut report = damage_as_finding(look(repository, CheckOptions::default(), &trees))?;
    // The engine panics on a pack that is shorter than the index says, which the first look has found.
    if depth == CheckDepth::ReadData && report.is_ok() {
        report = damage_as_finding(read_data(repository, &trees, watch))?;
    }
    let unreadable = unreadable
        .iter()
        .map(|(id, cause)| format!("the file of snapshot {id} cannot be read: {} (to give up this one alone, delete its record, or the file if it has none)", cause.detail()));
    report.errors.splice(0..0, unreadable);
    Ok(report)
}

/// Whether this says that what is stored is not what was written, and not only that nobody could look.
fn is_damage(error: &Error) -> bool {
    matches!(error.class(), ErrorClass::Integrity | ErrorClass::Unexpected)
}

fn read_data(repository: &Repository, trees: &[TreeId], watch: Option<&Watch>) -> Result<CheckReport, Error> {
    let options = CheckOptions::default().read_data(true);
    let Some(watch) = watch else { return look(repository, options, trees) };
    let metered = MeteredStorage::new(repository.storage.clone(), watch);
    let metered = metered.map_err(|cause| Error::storage(&repository.url, cause))?;
    look(&repository.on(Arc::new(metered)), options, trees)
}

/// Whether a finding is about a pack that a prune has marked for deletion, which no snapshot needs. restic, which sees no
/// marks, may have deleted it already, and the engine forgets the size of one that no index named.
fn concerns_marked(finding: &str) -> bool {
    ["marked to delete: true", "marked to-delete: true"].iter().any(|mark| finding.contains(mark))
}

/// The finding in one line; what the engine met comes in our words for it.
fn words(finding: &(dyn std::error::Error + 'static)) -> String {
    let cause =
        find::<RusticError>(finding).or_else(|| find::<Box<RusticError>>(finding).map(|cause| &**cause));
    let text = finding.to_string();
    match (cause, text.split_once(" : `rustic_core`")) {
        (Some(cause), Some((what, _))) => one_line(&format!("{what}: {}", engine_words(cause))),
        _ => one_line(&failure_chain(finding)),
    }
}

fn look(repository: &Repository, options: CheckOptions, trees: &[TreeId]) -> Result<CheckReport, Error> {
    let engine = repository.engine()?;
    let check = || engine.check_with_trees(options, trees.to_vec());
    let CheckResults(findings) = read_engine(&repository.url, "check", check)?;
    let mut report = CheckReport::default();
    for (level, finding) in findings {
        // The engine takes a storage that has gone away, or lets nobody read, for damage.
        let cause =
            find::<StorageError>(&finding).map(|cause| Error::storage(&repository.url, cause.clone()));
        if let Some(error) = cause.filter(|cause| !is_damage(cause)) {
            return Err(error);
        }
        let text = words(&finding);
        // The engine does not export the level's type.
        if format!("{level:?}") == "Warn" || concerns_marked(&text) {
            report.warnings.push(text);
        } else {
            report.errors.push(text);
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rustic_core::Id;

    use super::*;
    use crate::{
        BackupRequest, MemoryStore, Source, StorageErrorKind,
        backend::{FileKind, Storage, pass_on},
        init::quick,
    };

    /// A repository with three backups.
    fn repository() -> Repository {
        let repository = quick::repository(Arc::new(MemoryStore::new()));
        for number in 0..3 {
            let content = vec![number; 100_000];
            let source = Source {
                path: "/data/etcd-snapshot.db".to_owned(),
                size: content.len() as u64,
                mode: 0o600,
                reader: Box::new(std::io::Cursor::new(content)),
            };
            let request = BackupRequest {
                time: jiff::Timestamp::now(),
                host: "host".to_owned(),
                tags: Vec::new(),
                path: "/data".to_owned(),
                sources: vec![source],
            };
            repository.backup(request).unwrap();
        }
        repository
    }

    /// Changes one file of this kind; its id.
    fn damage(repository: &Repository, kind: FileKind, change: impl Fn(&mut Vec<u8>)) -> Id {
        let (id, _) = repository.storage.list(kind).unwrap()[0];
        let mut content = repository.storage.read(kind, &id).unwrap().to_vec();
        change(&mut content);
        repository.storage.write(kind, &id, content.into()).unwrap();
        id
    }

    /// The engine's words have the first digits of an id only.
    fn names(finding: &str, id: &Id) -> bool {
        finding.contains(&id.to_hex().as_str()[..8])
    }

    /// Ways in which a file of a few hundred bytes can be damaged.
    const CHANGES: [fn(&mut Vec<u8>); 4] = [
        |content| content[50] ^= 1,
        |content| content.truncate(50),
        |content| content.truncate(5),
        |content| content.extend([0; 100]),
    ];

    #[test]
    fn damaged_snapshots_and_indexes_are_findings_that_name_the_file() {
        for kind in [FileKind::Snapshot, FileKind::Index] {
            for change in CHANGES {
                let repository = repository();
                let id = damage(&repository, kind, change);
                for depth in [CheckDepth::Structure, CheckDepth::ReadData] {
                    let report = run(&repository, depth, None).unwrap();
                    let [finding] = report.errors.as_slice() else { panic!("{:?}", report.errors) };
                    assert!(names(finding, &id), "{finding}");
                    assert!(!finding.contains('\n') && !finding.contains("nonce"), "{finding}");
                }
                let error = repository.plan_prune().unwrap_err();
                assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
            }
        }
    }

    #[test]
    fn behind_a_damaged_snapshot_the_rest_is_looked_at_too() {
        let repository = repository();
        let snapshot = damage(&repository, FileKind::Snapshot, CHANGES[0]);
        let (pack, _) = repository.storage.list(FileKind::Pack).unwrap()[0];
        repository.storage.remove(FileKind::Pack, &pack).unwrap();
        let report = run(&repository, CheckDepth::Structure, None).unwrap();
        for id in [snapshot, pack] {
            let named = report.errors.iter().any(|finding| names(finding, &id));
            assert!(named, "{id:?}: {:?}", report.errors);
        }
    }

    #[test]
    fn a_pack_that_is_gone_or_short_is_found_without_reading_it_and_a_changed_one_by_reading() {
        for (change, depth) in CHANGES.into_iter().zip([
            CheckDepth::ReadData,
            CheckDepth::Structure,
            CheckDepth::Structure,
            CheckDepth::Structure,
        ]) {
            let repository = repository();
            let id = damage(&repository, FileKind::Pack, change);
            let report = run(&repository, depth, None).unwrap();
            let named = report.errors.iter().any(|finding| names(finding, &id));
            assert!(named, "{:?}", report.errors);
        }
        let repository = repository();
        let (id, _) = repository.storage.list(FileKind::Pack).unwrap()[0];
        repository.storage.remove(FileKind::Pack, &id).unwrap();
        assert!(!run(&repository, CheckDepth::Structure, None).unwrap().is_ok());
        assert_eq!(repository.plan_prune().unwrap_err().class(), ErrorClass::Integrity);
    }

    /// A storage that gives no files of this kind, but for one.
    #[derive(Debug)]
    struct Away {
        inner: Arc<dyn Storage>,
        at: FileKind,
        why: StorageErrorKind,
        given: Id,
    }

    impl Away {
        fn answer(
            &self,
            kind: FileKind,
            id: &Id,
            answer: Result<Bytes, StorageError>,
        ) -> Result<Bytes, StorageError> {
            if kind == self.at && *id != self.given {
                Err(StorageError::with_detail("get", "file", self.why, "refused"))
            } else {
                answer
            }
        }
    }

    impl Storage for Away {
        pass_on!(url, prepare, list, write, create_new, remove);

        fn read(&self, kind: FileKind, id: &Id) -> Result<Bytes, StorageError> {
            self.answer(kind, id, self.inner.read(kind, id))
        }

        fn read_range(
            &self,
            kind: FileKind,
            id: &Id,
            offset: u32,
            length: u32,
        ) -> Result<Bytes, StorageError> {
            self.answer(kind, id, self.inner.read_range(kind, id, offset, length))
        }
    }

    #[test]
    fn a_storage_that_goes_away_at_any_moment_is_an_error_and_no_damage() {
        let repository = repository();
        let (given, _) = repository.storage.list(FileKind::Snapshot).unwrap()[0];
        for (why, class) in [
            (StorageErrorKind::Unreachable, ErrorClass::Temporary),
            (StorageErrorKind::Other, ErrorClass::Temporary),
            (StorageErrorKind::AccessDenied, ErrorClass::Configuration),
        ] {
            for at in [FileKind::Config, FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
                let away = Away { inner: repository.storage.clone(), at, why, given };
                let away = repository.on(Arc::new(away));
                for depth in [CheckDepth::Structure, CheckDepth::ReadData] {
                    let error = run(&away, depth, None).unwrap_err();
                    assert_eq!(error.class(), class, "{at:?}: {error}");
                }
            }
        }
        for at in [FileKind::Config, FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
            let why = StorageErrorKind::Unreachable;
            let away = repository.on(Arc::new(Away { inner: repository.storage.clone(), at, why, given }));
            let error = away.plan_prune().unwrap_err();
            assert_eq!(error.class(), ErrorClass::Temporary, "{at:?}: {error}");
        }
    }
}

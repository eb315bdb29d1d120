//! What is in a snapshot, for a catalogue.

use rustic_core::{
    IndexedIdsStatus, Repository as Engine, TreeId,
    repofile::{Node, SnapshotFile, Tree},
};
use serde::Serialize;

use crate::{Error, Repository, SnapshotId, error::read_engine, parallel, snapshot};

/// The directory of a backup, and what may lie in it. Certificates are one archive, or, as KubeDR stored them, a directory.
const DATA: &str = "data";
const DATABASE: &str = "etcd-snapshot.db";
const CERTIFICATES: [&str; 2] = ["certificates.tar", "certificates"];

/// What is in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// Whether there is a file `/data/etcd-snapshot.db`.
    pub etcd: bool,
    /// Whether there is `/data/certificates.tar` or a directory `/data/certificates`.
    pub certificates: bool,
    /// Bytes of all files.
    pub size: u64,
}

pub(crate) fn run(
    repository: &Repository,
    snapshots: &[SnapshotId],
) -> Result<Vec<Result<Contents, Error>>, Error> {
    let engine = repository.engine()?;
    // An index that knows where trees are, and of data nothing but that it exists: a fraction of the memory.
    let engine = read_engine(&repository.url, "reading the index", || engine.to_indexed_ids())?;
    let look = Look { repository, engine: &engine };
    Ok(parallel::each(snapshots, |id| look.contents(id)))
}

struct Look<'a> {
    repository: &'a Repository,
    engine: &'a Engine<IndexedIdsStatus>,
}

impl Look<'_> {
    fn contents(&self, id: &SnapshotId) -> Result<Contents, Error> {
        let file = snapshot::load(self.repository, id)?;
        let root = self.tree(file.tree)?;
        let data = match root.nodes.iter().find(|node| is_called(node, DATA)).and_then(subtree) {
            Some(tree) => self.tree(tree)?.nodes,
            None => Vec::new(),
        };
        let has = |name, fits: fn(&Node) -> bool| data.iter().any(|node| is_called(node, name) && fits(node));
        Ok(Contents {
            etcd: has(DATABASE, Node::is_file),
            certificates: has(CERTIFICATES[0], Node::is_file) || has(CERTIFICATES[1], Node::is_dir),
            size: self.size(&file, root, data)?,
        })
    }

    /// As the program that wrote it noted, or counted.
    fn size(&self, file: &SnapshotFile, root: Tree, data: Vec<Node>) -> Result<u64, Error> {
        if let Some(summary) = &file.summary {
            return Ok(summary.total_bytes_processed);
        }
        let rest = root.nodes.into_iter().filter(|node| !is_called(node, DATA));
        let mut pending: Vec<Node> = rest.chain(data).collect();
        let mut size = 0;
        while let Some(node) = pending.pop() {
            if node.is_file() {
                size += node.meta.size;
            }
            if let Some(tree) = subtree(&node) {
                pending.extend(self.tree(tree)?.nodes);
            }
        }
        Ok(size)
    }

    fn tree(&self, id: TreeId) -> Result<Tree, Error> {
        read_engine(&self.repository.url, "reading a directory", || self.engine.get_tree(&id))
    }
}

fn is_called(node: &Node, name: &str) -> bool {
    *node.name() == *name
}

fn subtree(node: &Node) -> Option<TreeId> {
    node.subtree.filter(|_| node.is_dir())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustic_core::Id;

    use super::*;
    use crate::{BackupRequest, ErrorClass, MemoryStore, Source, init::quick};

    fn backup(repository: &Repository, path: &str, files: &[(&str, usize)]) -> SnapshotId {
        let source = |(path, size): &(&str, usize)| Source {
            path: (*path).to_owned(),
            size: *size as u64,
            mode: 0o600,
            reader: Box::new(std::io::Cursor::new(vec![7; *size])),
        };
        let request = BackupRequest {
            time: jiff::Timestamp::now(),
            host: "host".to_owned(),
            tags: Vec::new(),
            path: path.to_owned(),
            sources: files.iter().map(source).collect(),
        };
        repository.backup(request).unwrap().snapshot_id
    }

    #[test]
    fn what_is_in_each_snapshot_is_told_in_the_order_of_the_question() {
        let repository = quick::repository(Arc::new(MemoryStore::new()));
        let database = ("/data/etcd-snapshot.db", 100_000);
        let questions = [
            (backup(&repository, "/data", &[database]), (true, false, 100_000)),
            (
                backup(&repository, "/data", &[database, ("/data/certificates.tar", 10)]),
                (true, true, 100_010),
            ),
            // As KubeDR stored them.
            (
                backup(&repository, "/data", &[database, ("/data/certificates/etcd/ca.crt", 5)]),
                (true, true, 100_005),
            ),
            (backup(&repository, "/data", &[("/data/certificates.tar", 10)]), (false, true, 10)),
            // A directory of the database's name, and a database elsewhere.
            (backup(&repository, "/data", &[("/data/etcd-snapshot.db/file", 3)]), (false, false, 3)),
            (backup(&repository, "/srv", &[("/srv/data/etcd-snapshot.db", 4)]), (false, false, 4)),
        ];
        let ids: Vec<SnapshotId> = questions.iter().map(|(id, _)| id.clone()).collect();
        let answers = repository.contents(&ids).unwrap();
        for ((_, (etcd, certificates, size)), answer) in questions.into_iter().zip(answers) {
            assert_eq!(answer.unwrap(), Contents { etcd, certificates, size });
        }
    }

    #[test]
    fn a_snapshot_that_is_gone_or_damaged_spoils_only_its_own_answer() {
        let repository = quick::repository(Arc::new(MemoryStore::new()));
        let id = backup(&repository, "/data", &[("/data/etcd-snapshot.db", 10)]);
        let answers = repository.contents(&[Id::random().into(), id.clone()]).unwrap();
        assert!(matches!(answers[0], Err(Error::NoSuchSnapshot { .. })), "{answers:?}");
        assert!(answers[1].as_ref().unwrap().etcd);
        let kind = crate::backend::FileKind::Index;
        for (index, _) in repository.storage.list(kind).unwrap() {
            repository.storage.remove(kind, &index).unwrap();
        }
        let error = repository.contents(&[id]).unwrap().remove(0).unwrap_err();
        assert_ne!(error.class(), ErrorClass::Temporary, "{error}");
    }
}

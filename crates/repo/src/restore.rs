//! From a snapshot to files on disk.

use std::{
    fs::{self, File, FileTimes, OpenOptions, Permissions},
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, lchown, symlink},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustic_core::repofile::{Node, NodeType};
use serde::Serialize;

use crate::{
    Error, Repository, SnapshotId, Watch,
    progress::{Meter, MeteredWriter},
    readback::{ReadError, TreeReader},
    snapshot,
};

/// What a restore has written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The snapshot it was taken from.
    pub snapshot_id: SnapshotId,
    /// Number of files; directories and links are not counted.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries whose owner or mode the file system did not take, or this process may not set.
    pub metadata_not_set: Vec<PathBuf>,
}

pub(crate) fn run(
    repository: &Repository,
    name: &str,
    target: &Path,
    watch: Option<&Watch>,
) -> Result<Restored, Error> {
    let snapshot_id = snapshot::find(repository, name)?.id;
    let tree = snapshot::load(repository, &snapshot_id)?.tree;
    let reader = TreeReader::new(repository)?;
    let nodes = reader.walk(tree)?;
    refuse_special(&nodes)?;
    let total = nodes.iter().filter(|(_, node)| node.is_file()).map(|(_, node)| node.meta.size).sum();
    let meter = watch.map(|watch| Meter::new(watch, total));
    let mut restored = Restored { snapshot_id, files: 0, bytes: 0, metadata_not_set: Vec::new() };
    fs::create_dir_all(target).map_err(|cause| failed(target, cause))?;
    for (path, node) in &nodes {
        let destination = below(target, path);
        match &node.node_type {
            NodeType::Dir => make_directory(&destination)?,
            NodeType::Symlink { .. } => make_link(&destination, node)?,
            _ => {
                restored.bytes += write_file(&reader, path, node, &destination, meter.as_ref())?;
                restored.files += 1;
            }
        }
    }
    // Deepest first: a directory's time changes with what is put into it, and its mode may forbid that.
    for (path, node) in nodes.iter().rev() {
        let destination = below(target, path);
        if apply_metadata(&destination, node)? == Metadata::Refused {
            restored.metadata_not_set.push(destination);
        }
    }
    Ok(restored)
}

fn failed(path: &Path, cause: io::Error) -> Error {
    Error::Target { path: path.to_owned(), cause }
}

/// The place of a snapshot's absolute path below the target.
fn below(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap_or(path))
}

/// Devices, pipes and sockets are in no backup of ours; leaving them out silently would be a lie.
fn refuse_special(nodes: &[(PathBuf, Node)]) -> Result<(), Error> {
    let special = nodes.iter().find(|(_, node)| node.is_special() && !node.is_symlink());
    match special {
        Some((path, node)) => Err(Error::InvalidRequest {
            reason: format!(
                "`{}` is a {}, which is not restored; use restic",
                path.display(),
                node.node_type
            ),
        }),
        None => Ok(()),
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        outcome => outcome.map_err(|cause| failed(path, cause)),
    }
}

fn make_link(path: &Path, node: &Node) -> Result<(), Error> {
    let temporary = temporary_name(path);
    let make = || {
        remove_if_there(&temporary)?;
        symlink(node.node_type.to_link(), &temporary)?;
        fs::rename(&temporary, path)
    };
    make().map_err(|cause| failed(path, cause))
}

/// Writes under a temporary name, and gives the file its own only when it is complete and on disk.
fn write_file(
    reader: &TreeReader<'_>,
    path: &Path,
    node: &Node,
    destination: &Path,
    meter: Option<&Meter>,
) -> Result<u64, Error> {
    let temporary = temporary_name(destination);
    let written = fill(reader, path, node, &temporary, meter).and_then(|count| match node.meta.size {
        size if size == count => Ok(count),
        size => Err(ReadError::Repository(Error::damaged(
            reader.url(),
            format!("`{}` has {count} bytes, its entry says {size}", path.display()),
        ))),
    });
    let outcome = match written {
        Ok(count) => {
            fs::rename(&temporary, destination).map(|()| count).map_err(|cause| failed(destination, cause))
        }
        Err(ReadError::Output(cause)) => Err(failed(destination, cause)),
        Err(ReadError::Repository(error)) => Err(error),
    };
    if outcome.is_err() {
        // The first error is the one to report.
        let _ = remove_if_there(&temporary);
    }
    outcome
}

fn fill(
    reader: &TreeReader<'_>,
    path: &Path,
    node: &Node,
    temporary: &Path,
    meter: Option<&Meter>,
) -> Result<u64, ReadError> {
    remove_if_there(temporary).map_err(ReadError::Output)?;
    // Readable by nobody else until its own mode is set.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary);
    let output = BufWriter::with_capacity(1 << 20, file.map_err(ReadError::Output)?);
    let mut output = MeteredWriter { inner: output, meter };
    let count = reader.copy(path, node, &mut output)?;
    output.flush().and_then(|()| output.inner.get_ref().sync_all()).map_err(ReadError::Output)?;
    Ok(count)
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.kubedr-restore"))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metadata {
    Set,
    Refused,
}

impl Metadata {
    /// A refusal is what file systems without owners and modes answer, and the operating system to a process without the right.
    fn of(outcome: io::Result<()>) -> io::Result<Self> {
        match outcome {
            Ok(()) => Ok(Self::Set),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::InvalidInput
                ) =>
            {
                Ok(Self::Refused)
            }
            Err(error) => Err(error),
        }
    }
}

fn apply_metadata(path: &Path, node: &Node) -> Result<Metadata, Error> {
    let meta = &node.meta;
    let apply = || {
        // The owner first: giving a file away clears its set-user-ID bit.
        let owner = Metadata::of(lchown(path, meta.uid, meta.gid))?;
        if node.is_symlink() {
            return Ok(owner);
        }
        if let Some(mtime) = meta.mtime {
            File::open(path)?.set_times(FileTimes::new().set_modified(SystemTime::from(mtime)))?;
        }
        let mode = match meta.mode {
            Some(mode) => Metadata::of(fs::set_permissions(path, Permissions::from_mode(unix_mode(mode))))?,
            None => Metadata::Set,
        };
        Ok(if mode == Metadata::Refused { mode } else { owner })
    };
    apply().map_err(|cause| failed(path, cause))
}

/// The permission bits of a mode as restic stores it: Go's, whose high bits differ from Unix's.
fn unix_mode(go_mode: u32) -> u32 {
    const GO_SETUID: u32 = 1 << 23;
    const GO_SETGID: u32 = 1 << 22;
    const GO_STICKY: u32 = 1 << 20;
    let mut mode = go_mode & 0o777;
    for (go, unix) in [(GO_SETUID, 0o4000), (GO_SETGID, 0o2000), (GO_STICKY, 0o1000)] {
        if go_mode & go != 0 {
            mode |= unix;
        }
    }
    mode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gos_mode_bits_become_unix_ones() {
        assert_eq!(unix_mode(0o600), 0o600);
        assert_eq!(unix_mode(1 << 31 | 1 << 20 | 0o777), 0o1777);
    }
}

//! A repository in a directory, laid out as restic does.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use rustic_core::Id;

use super::{Creation, FileKind, Storage, StorageError, StorageErrorKind, relative_path};

/// Directories restic expects; `tmp` holds files that are not complete yet and never counts as content.
const DIRECTORIES: [&str; 6] = ["data", "index", "keys", "locks", "snapshots", "tmp"];

/// Makes the names of temporary files differ within this process.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// Files below one directory.
#[derive(Debug)]
pub(crate) struct LocalStorage {
    root: PathBuf,
}

impl LocalStorage {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn path(&self, kind: FileKind, id: &Id) -> PathBuf {
        self.root.join(relative_path(kind, id))
    }

    /// A complete, synced file under a name nobody looks at.
    fn write_temporary(&self, content: &[u8]) -> io::Result<PathBuf> {
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("tmp").join(format!("{}-{number}", process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let written = file.write_all(content).and_then(|()| file.sync_all());
        if let Err(error) = written {
            // The first error is the one to report; a leftover in `tmp` harms nobody.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(path)
    }

    /// Puts a complete file under its name by `place`, which is what makes it visible.
    fn publish(
        &self,
        target: &Path,
        content: &[u8],
        place: fn(&Path, &Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let parent = target.parent().unwrap_or(&self.root);
        create_directory(parent)?;
        // A repository that restic made has none.
        create_directory(&self.root.join("tmp"))?;
        let temporary = self.write_temporary(content)?;
        let placed = place(&temporary, target);
        if temporary.exists() {
            let _ = fs::remove_file(&temporary);
        }
        placed?;
        // Without this the name may be lost in a power cut although the content was synced.
        File::open(parent)?.sync_all()
    }
}

fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn failure(action: &'static str, path: &Path, error: &io::Error) -> StorageError {
    let kind = match error.kind() {
        ErrorKind::NotFound => StorageErrorKind::Missing,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => StorageErrorKind::AccessDenied,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageErrorKind::Full,
        ErrorKind::NotADirectory | ErrorKind::IsADirectory => StorageErrorKind::Unusable,
        _ => StorageErrorKind::Other,
    };
    StorageError::new(action, path.display().to_string(), kind, error)
}

/// Ids and sizes of the files of a directory and of its direct subdirectories (packs lie one level down).
fn collect(directory: &Path, depth: u8, found: &mut Vec<(Id, u32)>) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let metadata = match entry.metadata() {
            // Removed since the directory was read.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_dir() && depth > 0 {
            collect(&entry.path(), depth - 1, found)?;
        } else if metadata.is_file()
            && let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok())
        {
            found.push((id, u32::try_from(metadata.len()).unwrap_or(u32::MAX)));
        }
    }
    Ok(())
}

impl Storage for LocalStorage {
    fn url(&self) -> String {
        self.root.display().to_string()
    }

    fn prepare(&self) -> Result<(), StorageError> {
        for name in DIRECTORIES {
            let path = self.root.join(name);
            create_directory(&path).map_err(|error| failure("create directory", &path, &error))?;
        }
        Ok(())
    }

    fn list(&self, kind: FileKind) -> Result<Vec<(Id, u32)>, StorageError> {
        let path = self.root.join(kind.dirname());
        if kind == FileKind::Config {
            return match fs::metadata(&path) {
                Ok(metadata) => Ok(vec![(Id::default(), u32::try_from(metadata.len()).unwrap_or(u32::MAX))]),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(failure("list", &path, &error)),
            };
        }
        let mut found = Vec::new();
        collect(&path, 1, &mut found).map_err(|error| failure("list", &path, &error))?;
        Ok(found)
    }

    fn read(&self, kind: FileKind, id: &Id) -> Result<Bytes, StorageError> {
        let path = self.path(kind, id);
        fs::read(&path).map(Bytes::from).map_err(|error| failure("read", &path, &error))
    }

    fn read_range(&self, kind: FileKind, id: &Id, offset: u32, length: u32) -> Result<Bytes, StorageError> {
        let path = self.path(kind, id);
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(u64::from(offset)))?;
            let mut bytes = Vec::new();
            file.take(u64::from(length)).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map(Bytes::from).map_err(|error| failure("read", &path, &error))
    }

    fn write(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<(), StorageError> {
        let path = self.path(kind, id);
        self.publish(&path, &content, |from, to| fs::rename(from, to))
            .map_err(|error| failure("write", &path, &error))
    }

    fn create_new(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<Creation, StorageError> {
        let path = self.path(kind, id);
        // A hard link is the one call that both refuses an existing name and shows only complete content.
        match self.publish(&path, &content, |from, to| fs::hard_link(from, to)) {
            Ok(()) => Ok(Creation::Created),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Creation::Exists),
            Err(error) => Err(failure("write", &path, &error)),
        }
    }

    fn remove(&self, kind: FileKind, id: &Id) -> Result<(), StorageError> {
        let path = self.path(kind, id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failure("remove", &path, &error)),
            _ => Ok(()),
        }
    }
}

//! Unpacks the archive of the certificates, with owners, modes and links.

use std::{
    fs::{self, File, FileTimes},
    io::{self, BufReader, ErrorKind},
    os::unix::fs::lchown,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use tar::{Archive, Entry};

/// Why the archive could not be unpacked.
#[derive(Debug)]
pub struct UnpackError {
    /// What was being read or written.
    pub path: PathBuf,
    /// The operating system's error.
    pub cause: io::Error,
}

/// Unpacks `archive` into the new directory `dir`, and returns what keeps another owner than it had.
pub fn unpack(archive: &Path, dir: &Path) -> Result<Vec<PathBuf>, UnpackError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| UnpackError { path, cause }
    };
    fs::create_dir(dir).map_err(failed(dir))?;
    let mut reader = Archive::new(BufReader::new(File::open(archive).map_err(failed(archive))?));
    let mut kept = Vec::new();
    // A directory's mode may forbid what is put into it, and its time changes with that: they come last, deepest first.
    let mut directories = Vec::new();
    for entry in reader.entries().map_err(failed(archive))? {
        let mut entry = entry.map_err(failed(archive))?;
        let path = dir.join(entry.path().map_err(failed(archive))?);
        if entry.header().entry_type().is_dir() {
            fs::create_dir_all(&path).map_err(failed(&path))?;
            directories.push((path, entry));
        } else if put(&mut entry, dir, &path).map_err(failed(&path))? == Owner::Kept {
            kept.push(path);
        }
    }
    for (path, mut entry) in directories.into_iter().rev() {
        if put(&mut entry, dir, &path).map_err(failed(&path))? == Owner::Kept {
            kept.push(path.clone());
        }
        // The library gives times to files only.
        set_time(&path, &entry).map_err(failed(&path))?;
    }
    Ok(kept)
}

fn set_time(path: &Path, entry: &Entry<'_, BufReader<File>>) -> io::Result<()> {
    let modified = UNIX_EPOCH + Duration::from_secs(entry.header().mtime()?);
    File::open(path)?.set_times(FileTimes::new().set_modified(modified))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Set,
    Kept,
}

fn put(entry: &mut Entry<'_, BufReader<File>>, dir: &Path, path: &Path) -> io::Result<Owner> {
    entry.set_preserve_permissions(true);
    entry.set_preserve_mtime(true);
    if !entry.unpack_in(dir)? {
        return Err(io::Error::other("the archive names a path outside of itself"));
    }
    let id = |id: io::Result<u64>| id.and_then(|id| u32::try_from(id).map_err(io::Error::other));
    let (uid, gid) = (id(entry.header().uid())?, id(entry.header().gid())?);
    // By hand: a volume that takes no owners is no reason to fail.
    match lchown(path, Some(uid), Some(gid)) {
        Ok(()) => Ok(Owner::Set),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::InvalidInput
            ) =>
        {
            Ok(Owner::Kept)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    fn archive_of(entries: &[(&str, tar::EntryType, u32)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.reopen().unwrap());
        for (path, kind, mode) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_size(0);
            header.set_uid(4321);
            header.set_gid(4322);
            header.set_mtime(1_000_000);
            if *kind == tar::EntryType::Symlink {
                builder.append_link(&mut header, path, "target").unwrap();
            } else {
                builder.append_data(&mut header, path, io::empty()).unwrap();
            }
        }
        builder.finish().unwrap();
        file
    }

    #[test]
    fn modes_links_and_times_come_back_even_below_a_directory_that_forbids_writing() {
        use tar::EntryType::{Directory, Regular, Symlink};
        let entries =
            [("etcd/", Directory, 0o500), ("etcd/ca.key", Regular, 0o600), ("etcd/link", Symlink, 0o777)];
        let (file, target) = (archive_of(&entries), tempfile::tempdir().unwrap());
        let dir = target.path().join("certificates");
        let kept = unpack(file.path(), &dir).unwrap();
        let key = dir.join("etcd/ca.key").metadata().unwrap();
        assert_eq!((key.permissions().mode() & 0o777, key.mtime()), (0o600, 1_000_000));
        assert_eq!(fs::read_link(dir.join("etcd/link")).unwrap(), Path::new("target"));
        let etcd = dir.join("etcd").metadata().unwrap();
        assert_eq!((etcd.permissions().mode() & 0o777, etcd.mtime()), (0o500, 1_000_000));
        // Only root gives files away; whoever runs this, a file has its owner or is named.
        let given_away = key.uid() == 4321 && key.gid() == 4322;
        assert_eq!(given_away, kept.is_empty(), "{kept:?}");
        assert!(given_away || kept.len() == 3, "{kept:?}");
        fs::set_permissions(dir.join("etcd"), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

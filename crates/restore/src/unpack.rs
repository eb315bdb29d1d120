//! Unpacks the archive of the certificates, with owners, modes and links.

use std::{
    fs::{self, File, FileTimes},
    io::{self, BufReader, ErrorKind},
    os::unix::fs::lchown,
    path::{Component, Path, PathBuf},
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
        let is_dir = entry.header().entry_type().is_dir();
        let path = inside(dir, &entry.path().map_err(failed(archive))?, is_dir)?;
        if is_dir {
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

/// Where an entry with this name belongs. Whoever could write to the repository chose the name, and a restore runs as root: nothing
/// outside of `dir` may be made or given to somebody, neither by its name nor by way of a link that came before.
fn inside(dir: &Path, name: &Path, is_dir: bool) -> Result<PathBuf, UnpackError> {
    let path = dir.join(name);
    let plain = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let mut above = path.ancestors().skip(usize::from(!is_dir)).take_while(|above| *above != dir);
    if plain && !above.any(Path::is_symlink) {
        return Ok(path);
    }
    Err(UnpackError { path, cause: io::Error::other("the archive names a path outside of itself") })
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

    /// An archive whose entries have names that the library itself would not write.
    fn archive_with_names(entries: &[(&str, tar::EntryType, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.reopen().unwrap());
        for (name, kind, link) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            header.set_size(0);
            header.set_uid(0);
            header.set_gid(0);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        }
        builder.finish().unwrap();
        file
    }

    #[test]
    fn nothing_outside_of_the_directory_is_made_or_changed() {
        use tar::EntryType::{Directory, Regular, Symlink};
        let target = tempfile::tempdir().unwrap();
        let outside = target.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let (away, new) = (outside.display().to_string(), format!("{}/new", outside.display()));
        let cases: [&[(&str, tar::EntryType, &str)]; 6] = [
            &[(&new, Regular, "")],
            &[(&new, Directory, "")],
            &[("../outside/new", Regular, "")],
            &[("a/../../outside/new/", Directory, "")],
            &[("link", Symlink, &away), ("link/new/", Directory, "")],
            &[("link", Symlink, &away), ("link/new", Regular, "")],
        ];
        for (number, entries) in cases.iter().enumerate() {
            let archive = archive_with_names(entries);
            let error = unpack(archive.path(), &target.path().join(number.to_string())).unwrap_err();
            assert!(error.cause.to_string().contains("outside of itself"), "{entries:?}: {error:?}");
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{entries:?}");
        }
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

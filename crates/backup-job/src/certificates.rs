//! The certificates as one tar archive that is the same for the same files.
//!
//! The archive is planned first: the directory is walked, everything is looked at and opened once, and the size is known to
//! the byte. Then it is streamed, so that neither memory nor disk holds it.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Cursor, Read},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use tar::{Builder, EntryType, Header};

/// Blocks that a tar archive is made of.
const BLOCK: u64 = 512;
/// Two blocks of zeros end an archive.
const END: usize = 2 * 512;

/// Why the certificates could not be read. Paths are those on the node.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A file or directory cannot be read.
    #[error("cannot read `{}` of the certificates: {cause}{}", path.display(), advice(cause))]
    Unreadable {
        /// The path on the node.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// There is no such directory.
    #[error("the certificates' directory `{}` is no directory; check `certsDir`", path.display())]
    NoDirectory {
        /// The path on the node.
        path: PathBuf,
    },
    /// A device, pipe or socket, which no archive of certificates should hold, and none silently leave out.
    #[error("`{}` is neither file, directory nor link and cannot be backed up; move it out of `certsDir`", path.display())]
    Special {
        /// The path on the node.
        path: PathBuf,
    },
    /// A file was changed while it was read.
    #[error("`{}` changed while it was being backed up; the next run takes it as it is then", path.display())]
    Changed {
        /// The path on the node.
        path: PathBuf,
    },
    /// A path that does not fit an archive.
    #[error("`{}` cannot be put into an archive: {cause}", path.display())]
    Unfit {
        /// The path on the node.
        path: PathBuf,
        /// The archive's error.
        cause: io::Error,
    },
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            "; the job runs as user 0 without capabilities and reads only what is root's: change the file's owner, or set \
             the chart's value `job.addCapabilities` to `[DAC_READ_SEARCH]`"
        }
        io::ErrorKind::NotFound => "; check `certsDir`, which names a directory of the node",
        _ => "",
    }
}

/// A planned archive.
#[derive(Debug)]
pub struct Archive {
    entries: Vec<Entry>,
    size: u64,
}

#[derive(Debug)]
struct Entry {
    /// The header, with what a long name needs before it.
    header: Vec<u8>,
    content: Option<Content>,
}

/// A file's bytes, yet to be read.
#[derive(Debug, Clone)]
struct Content {
    path: PathBuf,
    shown: PathBuf,
    size: u64,
    modified: (i64, i64),
}

impl Archive {
    /// Walks the directory `dir`, which is found below `root`, where the node's file system is mounted.
    ///
    /// Entries are sorted by path. Links stay links; owners, modes and times are kept; names of owners are not written,
    /// for they are another machine's.
    pub fn plan(root: &Path, dir: &Path) -> Result<Self, CertificatesError> {
        let real = root.join(dir.strip_prefix("/").unwrap_or(dir));
        let mut walk = Walk { real, shown: dir.to_owned(), entries: Vec::new() };
        let about = fs::metadata(&walk.real).map_err(|cause| unreadable(dir, cause))?;
        if !about.is_dir() {
            return Err(CertificatesError::NoDirectory { path: dir.to_owned() });
        }
        walk.directory(Path::new(""), &about)?;
        let content: u64 = walk
            .entries
            .iter()
            .filter_map(|e| e.content.as_ref())
            .map(|c| c.size.next_multiple_of(BLOCK))
            .sum();
        let headers: usize = walk.entries.iter().map(|entry| entry.header.len()).sum();
        Ok(Self { size: content + (headers + END) as u64, entries: walk.entries })
    }

    /// Size of the archive, in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The archive's bytes. A file that is no longer as it was planned makes the reader fail with a [`CertificatesError`].
    #[must_use]
    pub fn into_reader(self) -> impl Read + Send + use<> {
        let mut parts: Vec<Part> = Vec::new();
        for Entry { header, content } in self.entries {
            parts.push(Part::Bytes(Cursor::new(header)));
            if let Some(content) = content {
                let padding = content.size.next_multiple_of(BLOCK) - content.size;
                parts.push(Part::File(Reading::Planned(content)));
                parts.push(Part::zeros(usize::try_from(padding).unwrap_or_default()));
            }
        }
        parts.push(Part::zeros(END));
        parts.reverse();
        Parts(parts)
    }
}

fn unreadable(path: &Path, cause: io::Error) -> CertificatesError {
    CertificatesError::Unreadable { path: path.to_owned(), cause }
}

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

struct Walk {
    /// The directory where it can be read.
    real: PathBuf,
    /// The directory as the node knows it.
    shown: PathBuf,
    entries: Vec<Entry>,
}

impl Walk {
    fn directory(&mut self, at: &Path, about: &Metadata) -> Result<(), CertificatesError> {
        self.entry(at, about, EntryType::Directory, None)?;
        let mut names =
            names(&self.real.join(at)).map_err(|cause| unreadable(&self.shown.join(at), cause))?;
        names.sort_unstable();
        for name in names {
            self.child(&at.join(name))?;
        }
        Ok(())
    }

    fn child(&mut self, at: &Path) -> Result<(), CertificatesError> {
        let (real, shown) = (self.real.join(at), self.shown.join(at));
        let about = fs::symlink_metadata(&real).map_err(|cause| unreadable(&shown, cause))?;
        let kind = about.file_type();
        if kind.is_dir() {
            return self.directory(at, &about);
        }
        if kind.is_symlink() {
            let target = fs::read_link(&real).map_err(|cause| unreadable(&shown, cause))?;
            return self.entry(at, &about, EntryType::Symlink, Some(&target));
        }
        if kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
            return Err(CertificatesError::Special { path: shown });
        }
        // Opened once now: what cannot be read must be known before anything is stored.
        File::open(&real).map_err(|cause| unreadable(&shown, cause))?;
        self.entry(at, &about, EntryType::Regular, None)
    }

    fn entry(
        &mut self,
        at: &Path,
        about: &Metadata,
        kind: EntryType,
        target: Option<&Path>,
    ) -> Result<(), CertificatesError> {
        let size = if kind == EntryType::Regular { about.len() } else { 0 };
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(about.mode() & 0o7777);
        header.set_uid(u64::from(about.uid()));
        header.set_gid(u64::from(about.gid()));
        header.set_mtime(u64::try_from(about.mtime()).unwrap_or_default());
        header.set_size(size);
        let name = if at.as_os_str().is_empty() { Path::new("./") } else { at };
        // The builder writes the blocks of a long name, too; the content itself is streamed later.
        let mut builder = Builder::new(Vec::new());
        let written = match target {
            Some(target) => builder.append_link(&mut header, name, target),
            None => builder.append_data(&mut header, name, io::empty()),
        };
        written.map_err(|cause| CertificatesError::Unfit { path: self.shown.join(at), cause })?;
        let content = (kind == EntryType::Regular).then(|| Content {
            path: self.real.join(at),
            shown: self.shown.join(at),
            size,
            modified: (about.mtime(), about.mtime_nsec()),
        });
        self.entries.push(Entry { header: std::mem::take(builder.get_mut()), content });
        Ok(())
    }
}

/// Parts of an archive, the next one last.
struct Parts(Vec<Part>);

enum Part {
    Bytes(Cursor<Vec<u8>>),
    File(Reading),
}

enum Reading {
    Planned(Content),
    Open(File, Content, u64),
}

impl Part {
    fn zeros(count: usize) -> Self {
        Self::Bytes(Cursor::new(vec![0; count]))
    }

    /// Reads on; 0 means that this part is at its end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Bytes(bytes) => bytes.read(buffer),
            Self::File(reading) => reading.read(buffer),
        }
    }
}

impl Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Planned(content) = self {
            let file =
                File::open(&content.path).map_err(|cause| failed(unreadable(&content.shown, cause)))?;
            *self = Self::Open(file, content.clone(), 0);
        }
        let Self::Open(file, content, done) = self else { return Ok(0) };
        let count = file.read(buffer).map_err(|cause| failed(unreadable(&content.shown, cause)))?;
        *done += count as u64;
        let changed = || failed(CertificatesError::Changed { path: content.shown.clone() });
        if *done > content.size || (count == 0 && !content.is_unchanged(file, *done)) {
            return Err(changed());
        }
        Ok(count)
    }
}

impl Content {
    fn is_unchanged(&self, file: &File, read: u64) -> bool {
        let same = |about: Metadata| (about.mtime(), about.mtime_nsec()) == self.modified;
        read == self.size && file.metadata().is_ok_and(same)
    }
}

fn failed(error: CertificatesError) -> io::Error {
    io::Error::other(error)
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(part) = self.0.last_mut() {
            match part.read(buffer)? {
                0 => drop(self.0.pop()),
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn pki() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("etcd")).unwrap();
        fs::write(at("etcd/ca.crt"), "x".repeat(700)).unwrap();
        fs::write(at("ca.key"), "secret").unwrap();
        fs::set_permissions(at("ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
        symlink("etcd/ca.crt", at("link.crt")).unwrap();
        fs::write(at(&"n".repeat(150)), "long").unwrap();
        fs::write(at("empty"), "").unwrap();
        dir
    }

    fn bytes(dir: &Path) -> Vec<u8> {
        let archive = Archive::plan(Path::new("/"), dir).unwrap();
        let size = archive.size();
        let mut all = Vec::new();
        archive.into_reader().read_to_end(&mut all).unwrap();
        assert_eq!(all.len() as u64, size, "the size is known in advance");
        all
    }

    #[test]
    fn the_archive_holds_everything_sorted_with_modes_and_links() {
        let dir = pki();
        let all = bytes(dir.path());
        let mut archive = tar::Archive::new(all.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let path = entry.path().unwrap().display().to_string();
            seen.push((
                path,
                entry.header().mode().unwrap(),
                content.len(),
                entry.link_name().unwrap().is_some(),
            ));
        }
        let names: Vec<_> = seen.iter().map(|(path, ..)| path.as_str()).collect();
        let long = "n".repeat(150);
        assert_eq!(names, ["./", "ca.key", "empty", "etcd", "etcd/ca.crt", "link.crt", &long]);
        assert_eq!(seen[1], ("ca.key".into(), 0o600, 6, false));
        assert_eq!(seen[4].2, 700);
        assert!(seen[5].3, "a link stays a link");
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let dir = pki();
        assert_eq!(bytes(dir.path()), bytes(dir.path()));
    }

    #[test]
    fn messages_name_the_path_on_the_node_not_the_one_in_the_pod() {
        let error = Archive::plan(Path::new("/host-that-is-not-there"), Path::new("/etc/kubernetes/pki"))
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("cannot read `/etc/kubernetes/pki` of the certificates: No such"),
            "{message}"
        );
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_refused() {
        let dir = pki();
        let error = Archive::plan(Path::new("/"), &dir.path().join("ca.key")).unwrap_err();
        assert!(matches!(error, CertificatesError::NoDirectory { .. }), "{error}");
    }

    #[test]
    fn a_socket_is_named_and_not_left_out() {
        let dir = pki();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        let error = Archive::plan(Path::new("/"), dir.path()).unwrap_err();
        assert!(matches!(error, CertificatesError::Special { .. }), "{error}");
    }

    #[test]
    fn a_file_that_changes_after_the_plan_fails_the_reader() {
        for content in ["longer than before", "s", "SECRET"] {
            let dir = pki();
            let archive = Archive::plan(Path::new("/"), dir.path()).unwrap();
            fs::write(dir.path().join("ca.key"), content).unwrap();
            let error = archive.into_reader().read_to_end(&mut Vec::new()).unwrap_err();
            assert!(
                error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<CertificatesError>),
                "{content}: {error}"
            );
            assert!(error.to_string().contains("changed while"), "{content}: {error}");
        }
    }
}

//! The target: who else writes to it, and how the new data gets its name there.

use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::Path,
};

use crate::Error;

/// Keeps other restores away from the target for as long as the result lives, on file systems that can.
pub(crate) fn alone(target: &Path) -> Result<File, Error> {
    fs::create_dir_all(target).map_err(|cause| Error::written(target, cause))?;
    let directory = File::open(target).map_err(|cause| Error::written(target, cause))?;
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Busy { target: target.to_owned() }),
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, "the target cannot be locked; nothing else may restore to it now");
        }
    }
    Ok(directory)
}

/// Gives the new data its name; what has it stands aside for that moment and is removed afterwards. Once the new data has its name
/// the restore is done: what goes wrong then is a warning.
pub(crate) fn put_in_place(new: &Path, data: &Path, replaced: &Path) -> Result<(), Error> {
    if !new.exists() {
        return Err(Error::NoBackup);
    }
    remove(replaced)?;
    let aside = match fs::rename(data, replaced) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(cause) => return Err(Error::written(data, cause)),
    };
    if let Err(cause) = fs::rename(new, data) {
        if aside && let Err(error) = fs::rename(replaced, data) {
            tracing::error!(%error, kept = %replaced.display(), "the old data could not be put back");
        }
        return Err(Error::written(data, cause));
    }
    let settled = data.parent().map_or(Ok(()), sync).and_then(|()| remove(replaced));
    if let Err(error) = settled {
        tracing::warn!(%error, "the data is in place; what it replaced could not be cleared away");
    }
    Ok(())
}

pub(crate) fn sync(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|cause| Error::written(directory, cause))
}

pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let removed = path
        .symlink_metadata()
        .and_then(|about| if about.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) });
    match removed {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(Error::written(path, cause)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorClass;

    #[test]
    fn of_two_restores_to_one_target_the_second_is_refused_until_the_first_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let first = alone(dir.path()).unwrap();
        let refusal = alone(dir.path()).unwrap_err();
        assert_eq!(refusal.class(), ErrorClass::Configuration);
        assert!(refusal.to_string().contains("another restore"), "{refusal}");
        drop(first);
        alone(dir.path()).unwrap();
    }
}

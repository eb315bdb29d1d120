//! From a password to the master key.
//!
//! A key file holds the master key, encrypted with the password. The engine would take the first key that the password
//! opens; a repository whose initialisation was interrupted may hold one that opens and is still the wrong one, so here
//! a key counts only if it also decrypts the config.

use std::sync::Arc;

use rustic_core::{
    Credentials, Id, OpenStatus, Repository as Engine, RepositoryOptions, RusticError,
    repofile::{KeyFile, MasterKey},
};

use crate::{
    Error, Secret,
    backend::{FileKind, Storage, engine_backends, relative_path},
    error::is_authentication_failure,
};

/// Bounds for the parameters of a key file: opening it takes memory by N times r, and time by all three. The engine writes N = 2^17
/// and p = 1; restic measures the machine, and on one that is busy it chose N = 2^11 and p = 35. A damaged or hostile file must take
/// neither the machine's memory nor its time.
const MAX_N: u32 = 1 << 20;
const MAX_R: u32 = 16;
const MAX_P: u32 = 1 << 12;
const MAX_WORK: u64 = 1 << 28;

/// A repository whose key is known.
pub(crate) struct Unlocked {
    pub(crate) master: MasterKey,
    pub(crate) engine: Engine<OpenStatus>,
}

/// What a password does to a repository that has a config.
pub(crate) enum Unlocking {
    /// A key opens and is the right one. `strays` open too but belong to no config: leftovers of an interrupted
    /// initialisation.
    Open { unlocked: Box<Unlocked>, key: Id, strays: Vec<Id> },
    /// No key opens.
    WrongPassword,
    /// Keys open, and none of them decrypts the config, which is no other's either: every key opens.
    OnlyStrays,
}

/// Whether all keys are tried, which takes half a second each, or only those before the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thoroughness {
    FirstMatch,
    AllKeys,
}

/// Tries the password on the keys of a repository that has a config.
pub(crate) fn unlock(
    storage: &Arc<dyn Storage>,
    password: &Secret,
    thoroughness: Thoroughness,
) -> Result<Unlocking, Error> {
    let mut found = None;
    let mut strays = Vec::new();
    let mut closed = 0;
    for key in list_keys(storage)? {
        let Some(master) = open_key(storage, &key, password)? else {
            closed += 1;
            continue;
        };
        match engine_with_key(storage, &master)? {
            Some(engine) => {
                found.get_or_insert((Box::new(Unlocked { master, engine }), key));
                if thoroughness == Thoroughness::FirstMatch {
                    break;
                }
            }
            None => strays.push(key),
        }
    }
    Ok(match found {
        Some((unlocked, key)) => Unlocking::Open { unlocked, key, strays },
        // A key that does not open may be the right one.
        None if strays.is_empty() || closed > 0 => Unlocking::WrongPassword,
        None => Unlocking::OnlyStrays,
    })
}

/// Ids of all keys, smallest first.
pub(crate) fn list_keys(storage: &Arc<dyn Storage>) -> Result<Vec<Id>, Error> {
    let listed = storage.list(FileKind::Key).map_err(|cause| Error::storage(&storage.url(), cause))?;
    let mut keys: Vec<Id> = listed.into_iter().map(|(id, _)| id).collect();
    keys.sort_unstable();
    Ok(keys)
}

/// The master key in the key file, or nothing if the password does not open it or it is gone since it was listed.
pub(crate) fn open_key(
    storage: &Arc<dyn Storage>,
    id: &Id,
    password: &Secret,
) -> Result<Option<MasterKey>, Error> {
    let url = storage.url();
    let content = match storage.read(FileKind::Key, id) {
        Ok(content) => content,
        Err(cause) if cause.kind == crate::StorageErrorKind::Missing => return Ok(None),
        Err(cause) => return Err(Error::storage(&url, cause)),
    };
    let name = relative_path(FileKind::Key, id);
    let file: KeyFile = serde_json::from_slice(&content)
        .map_err(|error| Error::damaged(&url, format!("`{name}` is no key file: {error}")))?;
    if !is_bearable(file.n, file.r, file.p) {
        let detail = format!(
            "`{name}` asks for scrypt with N={} r={} p={}, which is out of bounds",
            file.n, file.r, file.p
        );
        return Err(Error::damaged(&url, detail));
    }
    match file.key_from_password(&password.reveal()) {
        Ok(key) => {
            let (encrypt, k, r) = key.to_keys();
            let mut master = MasterKey::new();
            master.encrypt = encrypt;
            master.mac.k = k;
            master.mac.r = r;
            Ok(Some(master))
        }
        Err(error) if is_authentication_failure(&error) => Ok(None),
        Err(error) => Err(Error::from_engine(&url, "opening a key", &error)),
    }
}

fn is_bearable(n: u32, r: u32, p: u32) -> bool {
    let work = u64::from(n) * u64::from(r) * u64::from(p);
    work > 0 && n <= MAX_N && r <= MAX_R && p <= MAX_P && work <= MAX_WORK
}

/// The engine on `storage`, or nothing if the config was not encrypted with this key.
pub(crate) fn engine_with_key(
    storage: &Arc<dyn Storage>,
    master: &MasterKey,
) -> Result<Option<Engine<OpenStatus>>, Error> {
    match open_engine(storage.clone(), &Credentials::Masterkey(master.clone())) {
        Ok(engine) => Ok(Some(engine)),
        Err(error) if is_authentication_failure(&error) => Ok(None),
        Err(error) => Err(Error::from_engine(&storage.url(), "opening the repository", &error)),
    }
}

fn open_engine(
    storage: Arc<dyn Storage>,
    credentials: &Credentials,
) -> Result<Engine<OpenStatus>, Box<RusticError>> {
    closed_engine(storage)?.open(credentials)
}

/// The engine before it knows a key. Without cache: a job's disk is read-only, and a backup reads next to nothing.
pub(crate) fn closed_engine(storage: Arc<dyn Storage>) -> Result<Engine<()>, Box<RusticError>> {
    Engine::new(&RepositoryOptions::default().no_cache(true), &engine_backends(storage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_restic_chooses_on_fast_and_busy_machines_is_opened_and_what_would_take_all_of_one_is_not() {
        for (n, r, p) in [(1 << 17, 8, 1), (1 << 15, 8, 5), (1 << 11, 8, 35), (1 << 20, 16, 16)] {
            assert!(is_bearable(n, r, p), "N={n} r={r} p={p}");
        }
        for (n, r, p) in [(0, 8, 1), (1 << 21, 8, 1), (1 << 15, 17, 1), (1 << 20, 16, 17), (2, 1, 1 << 13)] {
            assert!(!is_bearable(n, r, p), "N={n} r={r} p={p}");
        }
    }
}

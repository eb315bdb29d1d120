//! Initialisation that can be killed, repeated, and run twice at once.
//!
//! A repository begins with two files: a key, then the config. What makes a place a repository is the config; it is written
//! only where none is, so of several initialisations one succeeds and the others find its work. Before that:
//!
//! - A key without a config is what a killed initialisation left. If our password opens it, it is ours to finish: another
//!   key with the same password would be a second way in that leads nowhere, and stock restic, which takes the first key
//!   that opens, would fail on it every now and then.
//! - If our password does not open it, its owner may be just about to write the config. We wait; then, if the place
//!   holds nothing else, we remove it.
//! - Of several keys that our password opens the smallest id wins. Each initialisation takes back only a key of its own,
//!   and waits for the others to do so before it declares them dead.
//! - Whoever wrote the config makes sure afterwards that its key is still there and alone.

mod draft;
#[cfg(test)]
pub(crate) mod quick;

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustic_core::{Id, repofile::MasterKey};
use serde::Serialize;

use self::draft::Draft;
use crate::{
    Error, Secret,
    backend::{Creation, FileKind, Storage},
    unlock::{Thoroughness, Unlocked, Unlocking, list_keys, open_key, unlock},
};

/// How a new repository is made.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Host noted in the key; `restic key list` shows it.
    pub host: String,
    /// How long keys that stand in the way are given before their owner is taken for dead.
    pub grace: Duration,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self { host: "kubedr".to_owned(), grace: Duration::from_secs(5) }
    }
}

/// What [`crate::Repository::init`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InitOutcome {
    /// There was nothing; there is a repository now.
    Created,
    /// There was a repository, and the password opens it.
    Attached,
    /// There was what an interrupted initialisation left; it is a repository now.
    Completed,
}

/// Between two looks at what other initialisations do.
const POLL: Duration = Duration::from_millis(100);

/// Looks until giving up; each one either waits, which `grace` bounds, or makes progress.
const ROUNDS: u32 = 1000;

/// Composes the first files of a repository with a key of its own.
type NewKey = fn(&str, &Secret, &InitOptions) -> Result<Draft, Error>;

/// Makes sure that there is a repository that the password opens.
pub(crate) fn init(
    storage: &Arc<dyn Storage>,
    password: &Secret,
    options: &InitOptions,
) -> Result<(Unlocked, InitOutcome), Error> {
    init_with(Draft::with_new_key, storage, password, options)
}

fn init_with(
    new_key: NewKey,
    storage: &Arc<dyn Storage>,
    password: &Secret,
    options: &InitOptions,
) -> Result<(Unlocked, InitOutcome), Error> {
    if password.is_empty() {
        return Err(Error::InvalidRequest { reason: "the repository password is empty".to_owned() });
    }
    storage.prepare().map_err(|cause| Error::storage(&storage.url(), cause))?;
    let mut attempt = Attempt {
        new_key,
        storage: storage.clone(),
        url: storage.url(),
        password,
        options,
        opened: BTreeMap::new(),
        own: None,
        wrote_config: false,
        waiting_since: None,
    };
    let outcome = attempt.run();
    if outcome.is_err() {
        attempt.take_back_own_key();
    }
    outcome
}

struct Attempt<'a> {
    new_key: NewKey,
    storage: Arc<dyn Storage>,
    url: String,
    password: &'a Secret,
    options: &'a InitOptions,
    /// Keys tried so far; opening one costs half a second.
    opened: BTreeMap<Id, Option<MasterKey>>,
    /// The key this attempt has written.
    own: Option<Id>,
    wrote_config: bool,
    waiting_since: Option<Instant>,
}

/// What to do after looking.
enum Step {
    Done(Box<Unlocked>, InitOutcome),
    LookAgain,
}

/// The keys of a place without config.
struct Keys {
    ours: Vec<(Id, MasterKey)>,
    foreign: Vec<Id>,
}

impl Attempt<'_> {
    fn run(&mut self) -> Result<(Unlocked, InitOutcome), Error> {
        for _ in 0..ROUNDS {
            let has_config = self.storage.has_config().map_err(|cause| self.failed(cause))?;
            let step = if has_config { self.attach()? } else { self.advance()? };
            if let Step::Done(unlocked, outcome) = step {
                return Ok((*unlocked, outcome));
            }
        }
        Err(Error::Contended { url: self.url.clone() })
    }

    fn failed(&self, cause: crate::StorageError) -> Error {
        Error::storage(&self.url, cause)
    }

    /// A config is there: open it, and leave no second key with our password behind.
    fn attach(&mut self) -> Result<Step, Error> {
        match unlock(&self.storage, self.password, Thoroughness::AllKeys)? {
            Unlocking::Open { unlocked, key, strays } => {
                for stray in strays {
                    tracing::warn!(key = %stray.to_hex().as_str(), "removing a key that an interrupted initialisation left");
                    self.remove_key(&stray)?;
                }
                let outcome = match self.wrote_config {
                    true if self.own == Some(key) => InitOutcome::Created,
                    true => InitOutcome::Completed,
                    false => InitOutcome::Attached,
                };
                Ok(Step::Done(unlocked, outcome))
            }
            // The winner's key may have been removed by an attempt that took it for dead; it is put back at once.
            Unlocking::OnlyStrays if self.may_wait() => Ok(Step::LookAgain),
            Unlocking::OnlyStrays => {
                Err(Error::damaged(&self.url, "the password opens keys, but none of them fits the config"))
            }
            Unlocking::WrongPassword if list_keys(&self.storage)?.is_empty() => {
                if self.may_wait() {
                    return Ok(Step::LookAgain);
                }
                Err(Error::damaged(&self.url, "it has a config but no key, so that nobody can open it"))
            }
            Unlocking::WrongPassword => Err(Error::WrongPassword { url: self.url.clone() }),
        }
    }

    /// No config is there: agree on a key, then write the config.
    fn advance(&mut self) -> Result<Step, Error> {
        let Keys { ours, foreign } = self.look_at_keys()?;
        match ours.as_slice() {
            [] if foreign.is_empty() => self.write_own_key(),
            // With keys of another password beside it: one that was found here is finished at once; if it is our own,
            // two attempts run just now, and the smaller id goes first.
            [(key, master)] if self.own != Some(*key) || foreign.iter().all(|other| key < other) => {
                self.write_config(*key, &master.clone())
            }
            [] | [_] => self.wait_for_or_remove(&foreign),
            [(winner, _), ..] => self.yield_to(*winner, &ours),
        }
    }

    fn look_at_keys(&mut self) -> Result<Keys, Error> {
        let mut keys = Keys { ours: Vec::new(), foreign: Vec::new() };
        for id in list_keys(&self.storage)? {
            if !self.opened.contains_key(&id) {
                let master = open_key(&self.storage, &id, self.password)?;
                self.opened.insert(id, master);
            }
            match self.opened.get(&id) {
                Some(Some(master)) => keys.ours.push((id, master.clone())),
                _ => keys.foreign.push(id),
            }
        }
        Ok(keys)
    }

    fn write_own_key(&mut self) -> Result<Step, Error> {
        self.refuse_leftovers("neither config nor keys")?;
        let draft = (self.new_key)(&self.url, self.password, self.options)?;
        let (id, content) = draft.key.ok_or_else(|| Error::Engine {
            action: "composing a key",
            detail: "the engine wrote none".to_owned(),
        })?;
        // Remembered first: a write that fails may still have happened.
        self.own = Some(id);
        self.opened.insert(id, Some(draft.master));
        self.storage.write(FileKind::Key, &id, content).map_err(|cause| self.failed(cause))?;
        Ok(Step::LookAgain)
    }

    /// Data without the files that open it is a repository somebody damaged, not a place to make one in.
    fn refuse_leftovers(&self, lacking: &str) -> Result<(), Error> {
        for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
            let found = self.storage.list(kind).map_err(|cause| self.failed(cause))?;
            if !found.is_empty() {
                let detail = format!(
                    "it has {lacking}, but {} file(s) in `{}`: restore the missing files or choose an empty location",
                    found.len(),
                    kind.dirname()
                );
                return Err(Error::damaged(&self.url, detail));
            }
        }
        Ok(())
    }

    /// Keys that another password opens: give their owner time, then clear them away.
    fn wait_for_or_remove(&mut self, foreign: &[Id]) -> Result<Step, Error> {
        if self.may_wait() {
            return Ok(Step::LookAgain);
        }
        self.refuse_leftovers("no config and no key that the password opens")?;
        for key in foreign {
            tracing::warn!(key = %key.to_hex().as_str(), "removing a key with another password that an interrupted initialisation left");
            self.remove_key(key)?;
        }
        self.waiting_since = None;
        Ok(Step::LookAgain)
    }

    /// Several keys open with our password: all but the smallest go.
    fn yield_to(&mut self, winner: Id, ours: &[(Id, MasterKey)]) -> Result<Step, Error> {
        if let Some(own) = self.own.filter(|own| *own != winner) {
            self.remove_key(&own)?;
            self.own = None;
            return Ok(Step::LookAgain);
        }
        if self.may_wait() {
            return Ok(Step::LookAgain);
        }
        for (key, _) in ours.iter().filter(|(key, _)| *key != winner) {
            self.remove_key(key)?;
        }
        self.waiting_since = None;
        Ok(Step::LookAgain)
    }

    /// The commit.
    fn write_config(&mut self, key: Id, master: &MasterKey) -> Result<Step, Error> {
        let key_file = match self.storage.read(FileKind::Key, &key) {
            Ok(content) => content,
            Err(cause) if cause.kind == crate::StorageErrorKind::Missing => return Ok(Step::LookAgain),
            Err(cause) => return Err(self.failed(cause)),
        };
        let config = Draft::with_key(&self.url, master, self.options)?.config;
        let created = self.storage.create_new(FileKind::Config, &Id::default(), config.clone());
        if created.map_err(|cause| self.failed(cause))? == Creation::Created {
            self.keep_key(&key, key_file)?;
            let stored = self.storage.read(FileKind::Config, &Id::default());
            self.wrote_config = stored.map_err(|cause| self.failed(cause))? == config;
        }
        // Whoever wrote it: attaching proves that it opens, and clears other keys of ours away.
        Ok(Step::LookAgain)
    }

    /// Puts the key back if an attempt with another password took us for dead in the meantime.
    fn keep_key(&self, key: &Id, content: Bytes) -> Result<(), Error> {
        if list_keys(&self.storage)?.contains(key) {
            return Ok(());
        }
        self.storage.write(FileKind::Key, key, content).map_err(|cause| self.failed(cause))
    }

    fn remove_key(&self, key: &Id) -> Result<(), Error> {
        self.storage.remove(FileKind::Key, key).map_err(|cause| self.failed(cause))
    }

    /// Sleeps and says yes until the grace period is over.
    fn may_wait(&mut self) -> bool {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.options.grace {
            return false;
        }
        thread::sleep(POLL);
        true
    }

    /// After a failure: our key must not be a second one beside the winner's. While there is no config it may stay: the
    /// next attempt finishes with it.
    fn take_back_own_key(&self) {
        let Some(own) = self.own else { return };
        if self.wrote_config || !self.storage.has_config().unwrap_or(false) {
            return;
        }
        if let Err(cause) = self.storage.remove(FileKind::Key, &own) {
            tracing::warn!(%cause, "cannot remove the key of the failed initialisation");
        }
    }
}

#[cfg(test)]
mod tests;

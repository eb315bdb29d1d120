//! Repositories for tests, made as [`super::init`] makes them but for the key: it opens at once.

use std::sync::Arc;

use rustic_core::repofile::MasterKey;

use super::{Draft, InitOptions, InitOutcome, init_with};
use crate::{Error, Repository, Secret, backend::Storage, unlock::Unlocked};

pub(crate) const PASSWORD: &str = "correct horse";

/// A new repository in this storage.
pub(crate) fn repository(storage: Arc<dyn Storage>) -> Repository {
    let (unlocked, outcome) = init(&storage, &PASSWORD.into(), &InitOptions::default()).unwrap();
    assert_eq!(outcome, InitOutcome::Created);
    Repository::from_unlocked(storage, unlocked)
}

pub(crate) fn init(
    storage: &Arc<dyn Storage>,
    password: &Secret,
    options: &InitOptions,
) -> Result<(Unlocked, InitOutcome), Error> {
    init_with(draft, storage, password, options)
}

fn draft(url: &str, password: &Secret, options: &InitOptions) -> Result<Draft, Error> {
    let master = MasterKey::new();
    let parts = [master.encrypt.as_slice(), &master.mac.k, &master.mac.r].concat();
    let (id, content) = kubedr_testing::key_file(&parts.try_into().unwrap(), password.reveal());
    let key = Some((id.parse().unwrap(), content.into()));
    Ok(Draft { key, ..Draft::with_key(url, &master, options)? })
}

//! Keys that open at once.
//!
//! The key of a repository is derived from its password with scrypt, which is made to take half a second, for each program
//! and each time it opens the repository. Tests that are about something else put a key in its place that is derived with the
//! least work scrypt allows; restic and we open it like any other.

use std::fs;
use std::path::{Path, PathBuf};

use aes256ctr_poly1305aes::aead::{Aead, Nonce};
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Restic;

/// A key file, and its name: `password` opens it at once and finds the master key, which is encryption key and the two parts of
/// the authentication key, one behind the other.
#[must_use]
pub fn key_file(master_key: &[u8; 64], password: &str) -> (String, Vec<u8>) {
    const SALT: [u8; 64] = [1; 64];
    let mut user_key = Key::default();
    let work = scrypt::Params::new(1, 1, 1).expect("the least work");
    scrypt::scrypt(password.as_bytes(), &SALT, &work, &mut user_key).expect("64 bytes");
    let [encrypt, k, r] = [0..32, 32..48, 48..64].map(|part| base64(&master_key[part]));
    let master_key = json!({"mac": {"k": k, "r": r}, "encrypt": encrypt}).to_string();
    let nonce = &Sha256::digest(&master_key)[..16];
    let sealed = Aes256CtrPoly1305Aes::new(&user_key)
        .encrypt(Nonce::<Aes256CtrPoly1305Aes>::from_slice(nonce), master_key.as_bytes())
        .expect("less than the cipher's limit");
    let file = json!({
        "created": "2024-01-01T00:00:00Z", "username": "", "hostname": "", "kdf": "scrypt",
        "N": 2, "r": 1, "p": 1, "salt": base64(&SALT), "data": base64(&[nonce, &sealed].concat()),
    });
    let file = file.to_string().into_bytes();
    (hex::encode(Sha256::digest(&file)), file)
}

fn base64(bytes: &[u8]) -> Value {
    serde_json::to_value(ByteString(bytes.to_vec())).expect("a text")
}

/// The master key of a repository: encryption key and the two parts of the authentication key.
pub(crate) fn master_key(repository: &Restic) -> [u8; 64] {
    let master = repository.json(&["cat", "masterkey"]);
    let parts = [&master["encrypt"], &master["mac"]["k"], &master["mac"]["r"]].map(|part| {
        let ByteString(bytes) = serde_json::from_value(part.clone()).expect("a part of the key");
        bytes
    });
    parts.concat().try_into().expect("64 bytes")
}

/// Lets the repository whose files are in `dir` open at once, with the password it has.
pub fn open_at_once(repository: &Restic, dir: &Path) {
    let (name, content) = key_file(&master_key(repository), repository.password());
    let keys = dir.join("keys");
    for old in fs::read_dir(&keys).expect("the keys of the repository") {
        fs::remove_file(old.expect("a key").path()).expect("a file that can be removed");
    }
    fs::write(keys.join(name), content).expect("a key of the repository");
}

/// An empty repository to be copied, for tests that each need one of their own: it is made once in a process, and each copy opens
/// at once. All copies have one id.
#[derive(Debug)]
pub struct EmptyRepository {
    /// Paths below the repository's, and what is there.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl EmptyRepository {
    /// The one that `init` makes in a directory, with this password.
    #[must_use]
    pub fn made_by(password: &str, init: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        init(dir.path());
        open_at_once(&Restic::new(&dir.path().display().to_string(), password), dir.path());
        let mut files = vec![PathBuf::from("config")];
        let keys = fs::read_dir(dir.path().join("keys")).expect("the keys of the repository");
        files.extend(keys.map(|key| Path::new("keys").join(key.expect("a key").file_name())));
        let read = |file: PathBuf| {
            let content = fs::read(dir.path().join(&file)).expect("a file of the repository");
            (file, content)
        };
        Self { files: files.into_iter().map(read).collect() }
    }

    /// Puts a copy into the directory, which may be a bucket's; it is created if need be.
    pub fn copy_to(&self, dir: &Path) {
        fs::create_dir_all(dir.join("keys")).expect("a directory for the repository");
        for (file, content) in &self.files {
            fs::write(dir.join(file), content).expect("a file of the repository");
        }
    }
}

//! Small repository files as restic stores them: perhaps compressed, encrypted with the master key, named by their hash.
//!
//! The engine does this for the kinds it knows; locks are ours.

use aes256ctr_poly1305aes::{
    Aes256CtrPoly1305Aes, Key,
    aead::{Aead, Nonce},
};
use bytes::Bytes;
use rustic_core::{Id, repofile::MasterKey};
use sha2::{Digest, Sha256};

/// First byte of a compressed file; one that is not compressed begins with its JSON.
const COMPRESSED: u8 = 2;

/// Bytes of the nonce, which stands before the encrypted content.
const NONCE: usize = 16;

/// The first repository version whose small files are compressed.
const COMPRESSING_VERSION: u32 = 2;

/// Encrypts and decrypts small files.
#[derive(Clone)]
pub(crate) struct Sealer {
    key: Key,
    compress: bool,
}

/// Why a file cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealError {
    /// The operating system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// Too short, changed, or encrypted with another key.
    #[error("it is not encrypted with the key of this repository, or was changed since")]
    Unauthentic,
    /// Its first byte is unknown.
    #[error("its form is unknown")]
    Form,
    /// It cannot be compressed or decompressed.
    #[error("compression: {0}")]
    Compression(std::io::Error),
}

impl Sealer {
    /// For a repository of this version.
    pub(crate) fn new(master: &MasterKey, version: u32) -> Self {
        let mut key = Key::default();
        let parts = master.encrypt.iter().chain(&master.mac.k).chain(&master.mac.r);
        for (to, from) in key.iter_mut().zip(parts) {
            *to = *from;
        }
        Self { key, compress: version >= COMPRESSING_VERSION }
    }

    /// The file with this content, and its name.
    pub(crate) fn seal(&self, content: &[u8]) -> Result<(Id, Bytes), SealError> {
        let plain = if self.compress { compress(content)? } else { content.to_vec() };
        let mut file = vec![0; NONCE];
        getrandom::fill(&mut file).map_err(SealError::Random)?;
        let nonce = Nonce::<Aes256CtrPoly1305Aes>::clone_from_slice(&file);
        let sealed = Aes256CtrPoly1305Aes::new(&self.key).encrypt(&nonce, plain.as_slice());
        file.extend(sealed.map_err(|_| SealError::Unauthentic)?);
        Ok((name_of(&file), file.into()))
    }

    /// The content of a file, in either form.
    pub(crate) fn open(&self, file: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, sealed) = file.split_at_checked(NONCE).ok_or(SealError::Unauthentic)?;
        let nonce = Nonce::<Aes256CtrPoly1305Aes>::from_slice(nonce);
        let plain = Aes256CtrPoly1305Aes::new(&self.key).decrypt(nonce, sealed);
        let plain = plain.map_err(|_| SealError::Unauthentic)?;
        match plain.first() {
            Some(b'{' | b'[') => Ok(plain),
            Some(&COMPRESSED) => zstd::decode_all(&plain[1..]).map_err(SealError::Compression),
            _ => Err(SealError::Form),
        }
    }
}

fn compress(content: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut compressed = vec![COMPRESSED];
    compressed.extend(zstd::encode_all(content, 0).map_err(SealError::Compression)?);
    Ok(compressed)
}

/// A file's name is the hash of what is stored.
pub(crate) fn name_of(file: &[u8]) -> Id {
    hex::encode(Sha256::digest(file)).parse().expect("64 hex digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_file_opens_with_its_key_only_and_only_unchanged() {
        let master = MasterKey::new();
        for version in [1, 2] {
            let sealer = Sealer::new(&master, version);
            let (id, file) = sealer.seal(br#"{"pid":1}"#).unwrap();
            assert_eq!(id, name_of(&file));
            assert_eq!(sealer.open(&file).unwrap(), br#"{"pid":1}"#);
            assert!(matches!(
                Sealer::new(&MasterKey::new(), version).open(&file),
                Err(SealError::Unauthentic)
            ));
            for at in [0, NONCE, file.len() - 1] {
                let mut changed = file.to_vec();
                changed[at] ^= 1;
                assert!(sealer.open(&changed).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn either_form_is_read_whatever_the_version() {
        let master = MasterKey::new();
        let (old, new) = (Sealer::new(&master, 1), Sealer::new(&master, 2));
        assert_eq!(new.open(&old.seal(b"{}").unwrap().1).unwrap(), b"{}");
        assert_eq!(old.open(&new.seal(b"{}").unwrap().1).unwrap(), b"{}");
        assert!(matches!(old.open(&old.seal(b"\x07").unwrap().1), Err(SealError::Form)));
        assert!(matches!(old.open(b""), Err(SealError::Unauthentic)));
    }
}

//! Many backups, written file by file in restic's format.
//!
//! A program that makes a backup derives a key, which takes half a second, and reads the index of all backups before: for
//! hundreds of them it would need minutes. Whether these are right is for stock restic to say.

use std::fs;
use std::path::{Path, PathBuf};

use aes256ctr_poly1305aes::aead::{Aead, Nonce};
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Restic, key::master_key};

/// Backups of an etcd that changes a little from one to the next.
#[derive(Clone, Copy, Debug)]
pub struct ManyBackups {
    /// Their number; one is made each hour.
    pub count: usize,
    /// Blobs of each.
    pub blobs: usize,
    /// Those among them that the backup before does not have.
    pub new_blobs: usize,
    /// Bytes of a blob.
    pub blob_size: usize,
}

impl ManyBackups {
    /// Adds them to a repository of version 2 whose files are in `dir`, each with an index file and packs of its own; the full
    /// ids of the snapshots, oldest first.
    #[must_use]
    pub fn write(self, repository: &Restic, dir: &Path) -> Vec<String> {
        let Self { count, blobs, new_blobs, blob_size } = self;
        let mut writer = Writer { sealer: Sealer::new(repository), dir: dir.to_owned() };
        let mut random = Random(1);
        let mut content = vec![String::new(); blobs];
        let backup = |round: usize| {
            let changed: Vec<usize> = match round {
                0 => (0..blobs).collect(),
                _ => (0..new_blobs).map(|_| random.below(blobs)).collect(),
            };
            let mut data = Pack::default();
            for at in changed {
                content[at] = data.add(&mut writer.sealer, Kind::Data, &random.bytes(blob_size));
            }
            let hours = i64::try_from(count - round).expect("a number of backups");
            let time = (Timestamp::now() - SignedDuration::from_hours(hours)).to_string();
            writer.finish_backup(data, &content, blobs * blob_size, &time)
        };
        (0..count).map(backup).collect()
    }
}

/// Makes the marks that a prune has set on packs so much older, in the repository whose files are in `dir`.
pub fn age_marks(repository: &Restic, dir: &Path, by: SignedDuration) {
    let mut writer = Writer { sealer: Sealer::new(repository), dir: dir.to_owned() };
    for file in fs::read_dir(dir.join("index")).expect("a directory of the repository") {
        let file = file.expect("a file of the repository").path();
        let mut index = writer.sealer.open(&fs::read(&file).expect("a file of the repository"));
        let marked = index["packs_to_delete"].as_array_mut().filter(|packs| !packs.is_empty());
        let Some(marked) = marked else { continue };
        for pack in marked {
            let time: Timestamp = serde_json::from_value(pack["time"].clone()).expect("the time of a mark");
            pack["time"] = json!((time - by).to_string());
        }
        writer.write_json("index", &index);
        fs::remove_file(file).expect("a file that can be removed");
    }
}

struct Writer {
    sealer: Sealer,
    dir: PathBuf,
}

impl Writer {
    /// Writes a backup of one file; the snapshot's id.
    fn finish_backup(&mut self, data: Pack, content: &[String], size: usize, time: &str) -> String {
        let mut trees = Pack::default();
        let content = content.join("\",\"");
        // By hand: `json!` would take longer than all the rest.
        let file = format!(
            r#"{{"nodes":[{{"name":"etcd-snapshot.db","type":"file","mode":384,"mtime":"{time}","uid":0,"gid":0,"size":{size},"content":["{content}"]}}]}}"#
        );
        let subtree = trees.add(&mut self.sealer, Kind::Tree, file.as_bytes());
        let directory = json!({"nodes": [{
            "name": "data", "type": "dir", "mode": 0x8000_01ed_u32, "mtime": time, "uid": 0, "gid": 0, "subtree": subtree,
        }]});
        let tree = trees.add(&mut self.sealer, Kind::Tree, directory.to_string().as_bytes());
        let packs = [data, trees].map(|pack| {
            let (content, blobs) = pack.finish(&mut self.sealer);
            json!({"id": self.write_pack(&content), "blobs": blobs})
        });
        self.write_json("index", &json!({"packs": packs}));
        let snapshot = json!({
            "time": time, "tree": tree, "paths": ["/data"], "hostname": "master-1", "username": "root", "uid": 0, "gid": 0,
            "tags": ["policy=daily"],
        });
        self.write_json("snapshots", &snapshot)
    }

    fn write_pack(&self, content: &[u8]) -> String {
        let id = hash(content);
        self.write(&format!("data/{}", &id[..2]), &id, content);
        id
    }

    fn write_json(&mut self, kind: &str, content: &Value) -> String {
        // A compressed file begins with its version.
        let plain = [&[2], compress(content.to_string().as_bytes()).as_slice()].concat();
        let sealed = self.sealer.seal(&plain);
        let id = hash(&sealed);
        self.write(kind, &id, &sealed);
        id
    }

    fn write(&self, kind: &str, id: &str, content: &[u8]) {
        let dir = self.dir.join(kind);
        fs::create_dir_all(&dir).expect("a directory of the repository");
        fs::write(dir.join(id), content).expect("a file of the repository");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Tree,
}

/// A pack on its way.
#[derive(Default)]
struct Pack {
    content: Vec<u8>,
    header: Vec<u8>,
    blobs: Vec<Value>,
}

impl Pack {
    /// Adds a blob, compressed if it is a tree; its id.
    fn add(&mut self, sealer: &mut Sealer, kind: Kind, plain: &[u8]) -> String {
        let id = Sha256::digest(plain);
        let (stored, mark, name) = match kind {
            Kind::Data => (sealer.seal(plain), 0, "data"),
            Kind::Tree => (sealer.seal(&compress(plain)), 3, "tree"),
        };
        let mut entry = json!({
            "id": hex::encode(id), "type": name, "offset": self.content.len(), "length": stored.len(),
        });
        self.header.push(mark);
        self.header.extend(length(&stored));
        if kind == Kind::Tree {
            self.header.extend(length(plain));
            entry["uncompressed_length"] = json!(plain.len());
        }
        self.header.extend_from_slice(&id);
        self.content.extend(stored);
        self.blobs.push(entry);
        hex::encode(id)
    }

    /// The file, and its entries in the index.
    fn finish(mut self, sealer: &mut Sealer) -> (Vec<u8>, Vec<Value>) {
        let header = sealer.seal(&self.header);
        self.content.extend_from_slice(&header);
        self.content.extend(length(&header));
        (self.content, self.blobs)
    }
}

/// Encrypts with the master key of a repository.
struct Sealer {
    cipher: Aes256CtrPoly1305Aes,
    sealed: u128,
}

impl Sealer {
    fn new(repository: &Restic) -> Self {
        let mut key = Key::default();
        key.copy_from_slice(&master_key(repository));
        // No two programs seal as many.
        let sealed = u128::from(std::process::id()) << 64;
        Self { cipher: Aes256CtrPoly1305Aes::new(&key), sealed }
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.sealed += 1;
        let nonce = Nonce::<Aes256CtrPoly1305Aes>::from(self.sealed.to_le_bytes());
        let sealed = self.cipher.encrypt(&nonce, plain).expect("less than the cipher's limit");
        [nonce.as_slice(), &sealed].concat()
    }

    fn open(&self, file: &[u8]) -> Value {
        let (nonce, sealed) = file.split_at(16);
        let plain = self.cipher.decrypt(Nonce::<Aes256CtrPoly1305Aes>::from_slice(nonce), sealed);
        let plain = plain.expect("a file that was encrypted with this key");
        let json = match plain.strip_prefix(&[2]) {
            Some(compressed) => zstd::decode_all(compressed).expect("a compressed file"),
            None => plain,
        };
        serde_json::from_slice(&json).expect("a file of JSON")
    }
}

fn hash(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn compress(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 0).expect("compression in memory")
}

fn length(content: &[u8]) -> [u8; 4] {
    u32::try_from(content.len()).expect("less than 4 GiB").to_le_bytes()
}

/// The same numbers each time, and no two blobs alike.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 ^ (self.0 >> 29)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits") % limit
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

//! The rules against `restic forget` of the restic that is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use aes256ctr_poly1305aes::aead::Aead;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce};
use k8s_openapi::ByteString;
use kubedr_testing::Restic;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::dice::{Dice, Spread};
use super::*;

/// Each kept backup's time with restic's words for what keeps it.
type Kept = BTreeMap<Timestamp, BTreeSet<String>>;

#[test]
fn the_same_backups_are_kept_for_the_same_reasons_as_by_restic_forget() {
    let keeps_oldest = keeps_oldest();
    let mut removed = 0;
    for seed in 0..5 {
        let mut dice = Dice::new(1_000 + seed);
        for spread in Spread::ALL {
            let backups = dice.backups(spread);
            let repository = Repository::with(&backups);
            for _ in 0..8 {
                let rules = dice.rules();
                let theirs = repository.forget(&backups, &rules);
                let ours = kept(&backups, &rules, keeps_oldest);
                assert_eq!(ours, theirs, "{spread:?}, seed {seed}, {rules:?}, {backups:#?}");
                removed += backups.len() - theirs.len();
            }
        }
    }
    assert!(removed > 1000, "restic removed only {removed}: the sets do not try the rules");
}

/// What we keep by restic's rules, without the points in which we go beyond them.
fn kept(backups: &[Backup<u64>], rules: &KeepRules, keeps_oldest: bool) -> Kept {
    let words = |reason: &Reason| match reason {
        Reason::Newest | Reason::NoRules => None,
        Reason::Pinned => Some("has tags [keep]".to_owned()),
        Reason::Oldest(rule) => keeps_oldest.then(|| rule.to_string()),
        Reason::Within(_) | Reason::Rule(_) => Some(reason.to_string()),
    };
    let kept = judge(backups, rules, Timestamp::now()).into_iter().map(|judged| {
        let reasons: BTreeSet<_> = judged.reasons.iter().filter_map(words).collect();
        (judged.backup.time, reasons)
    });
    kept.filter(|(_, reasons)| !reasons.is_empty()).collect()
}

/// Whether this restic keeps the oldest backup while a count is not used up: from 0.16 on.
fn keeps_oldest() -> bool {
    let output = kubedr_testing::run(kubedr_testing::command("restic").arg("version"));
    let version = kubedr_testing::text(&output.stdout);
    let numbers = version.split(' ').nth(1).unwrap().split('.').map(|number| number.parse().unwrap_or(0));
    numbers.take(2).collect::<Vec<u32>>() >= vec![0, 16]
}

/// A repository of snapshots without data. Its files are written here instead of by `restic backup`, and its key is
/// derived with the least work that scrypt allows, for restic would take half a second for each snapshot and each
/// question.
struct Repository {
    directory: TempDir,
}

impl Repository {
    const PASSWORD: &str = "password";
    const MASTER_KEY: [u8; 64] = [7; 64];

    fn with(backups: &[Backup<u64>]) -> Self {
        let repository = Self { directory: tempfile::tempdir().unwrap() };
        for kind in ["data", "index", "keys", "locks", "snapshots"] {
            fs::create_dir(repository.directory.path().join(kind)).unwrap();
        }
        repository.write_key();
        let config = json!({"version": 1, "id": "0".repeat(64), "chunker_polynomial": "3da3358b4dc173"});
        let config = seal(&Self::MASTER_KEY, &config);
        fs::write(repository.directory.path().join("config"), config).unwrap();
        for backup in backups {
            let tags = if backup.pinned { json!(["keep"]) } else { json!(null) };
            let snapshot = json!({
                "time": backup.time.to_string(), "tree": hex::encode([0; 32]), "paths": ["/data"],
                "hostname": backup.key.to_string(), "tags": tags,
            });
            repository.write("snapshots", &seal(&Self::MASTER_KEY, &snapshot));
        }
        repository
    }

    fn write_key(&self) {
        const SALT: [u8; 64] = [1; 64];
        let mut user_key = [0; 64];
        let work = scrypt::Params::new(1, 1, 1).unwrap();
        scrypt::scrypt(Self::PASSWORD.as_bytes(), &SALT, &work, &mut user_key).unwrap();
        let base64 = |bytes: &[u8]| serde_json::to_value(ByteString(bytes.to_vec())).unwrap();
        let [encrypt, k, r] = [0..32, 32..48, 48..64].map(|part| base64(&Self::MASTER_KEY[part]));
        let master_key = seal(&user_key, &json!({"mac": {"k": k, "r": r}, "encrypt": encrypt}));
        let key = json!({
            "created": "2024-01-01T00:00:00Z", "username": "", "hostname": "", "kdf": "scrypt",
            "N": 2, "r": 1, "p": 1, "salt": base64(&SALT), "data": base64(&master_key),
        });
        self.write("keys", key.to_string().as_bytes());
    }

    fn write(&self, kind: &str, content: &[u8]) {
        let name = hex::encode(Sha256::digest(content));
        fs::write(self.directory.path().join(kind).join(name), content).unwrap();
    }

    fn forget(&self, backups: &[Backup<u64>], rules: &KeepRules) -> Kept {
        let restic = Restic::new(&self.directory.path().display().to_string(), Self::PASSWORD);
        let mut args: Vec<String> =
            ["forget", "--dry-run", "--no-lock", "--group-by="].map(Into::into).into();
        let KeepRules { last, hourly, daily, weekly, monthly, yearly, within } = rules;
        let counts = [
            ("last", last),
            ("hourly", hourly),
            ("daily", daily),
            ("weekly", weekly),
            ("monthly", monthly),
            ("yearly", yearly),
        ];
        args.extend(counts.iter().filter_map(|(rule, n)| n.map(|n| format!("--keep-{rule}={n}"))));
        args.extend(within.map(|within| format!("--keep-within={within}")));
        args.extend(backups.iter().any(|backup| backup.pinned).then(|| "--keep-tag=keep".to_owned()));
        let answer = restic.json(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let group = &answer[0];
        let number = |list: &str| group[list].as_array().map_or(0, Vec::len);
        assert_eq!(number("keep") + number("remove"), backups.len(), "{answer}");
        let kept = group["reasons"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(|reason| {
            let words = reason["matches"].as_array().unwrap().iter().map(words);
            (reason["snapshot"]["time"].as_str().unwrap().parse().unwrap(), words.collect())
        });
        kept.collect()
    }
}

/// restic's word for a reason. It says `oldest` only since 0.17.
fn words(reason: &Value) -> String {
    let words = reason.as_str().unwrap();
    words.strip_prefix("oldest ").unwrap_or(words).to_owned()
}

/// Encrypted as restic encrypts.
fn seal(key: &[u8; 64], content: &Value) -> Vec<u8> {
    let content = content.to_string();
    let nonce = &Sha256::digest(&content)[..16];
    let sealed = Aes256CtrPoly1305Aes::new(Key::from_slice(key))
        .encrypt(Nonce::from_slice(nonce), content.as_bytes())
        .unwrap();
    [nonce, &sealed].concat()
}

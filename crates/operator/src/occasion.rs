//! Short names for occasions, from what makes them distinct.

use sha2::{Digest, Sha256};

/// Ten hex digits that follow from these parts and, for all that matters here, from no others.
#[must_use]
pub fn short_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(&hash.finalize()[..5])
}

/// `<name>-<middle>-<hash>`, the name shortened so that the whole has at most 63 characters, as names of Jobs must.
#[must_use]
pub fn job_name(name: &str, middle: &str, hash: &str) -> String {
    const MAX: usize = 63;
    let room = MAX - middle.len() - hash.len() - 2;
    let kept = &name[..name.floor_char_boundary(room)];
    format!("{}-{middle}-{hash}", kept.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_job_fits_and_is_valid_however_long_the_name_of_its_object() {
        let hash = short_hash(&["uid", "1"]);
        for name in ["a".repeat(63), format!("{}.{}", "a".repeat(45), "b".repeat(10)), "s3".to_owned()] {
            let job = job_name(&name, "init", &hash);
            assert!(job.len() <= 63 && !job.contains(".-") && job.ends_with(&hash), "{job}");
        }
        assert_eq!(job_name("s3", "init", "0123456789"), "s3-init-0123456789");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(short_hash(&["ab", "c"]), short_hash(&["a", "bc"]));
    }
}

//! `kubedr-backup-job`: see [`kubedr_backup_job`].

use std::process::exit;

fn main() {
    exit(kubedr_backup_job::main());
}

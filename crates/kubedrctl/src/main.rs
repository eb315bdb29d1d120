//! `kubedrctl`: see [`kubedrctl`].

use std::process::exit;

fn main() {
    exit(kubedrctl::main());
}

//! `kubedrctl` as an admin runs it: through its binary, against real repositories.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the functions that tests share are tests, too")]

mod bad_input;
mod fixture;
mod help;
mod repository;
mod secrets;
mod terminal;

//! The repository against real servers, judged by stock restic.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the functions that tests share are tests, too")]

mod backup;
mod damage;
mod fixture;
mod locations;
mod locks;
mod restore;
mod s3_faults;
mod s3_options;

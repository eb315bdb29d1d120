//! The end-to-end tests: the main job, and everything that can go wrong with it, on a real cluster.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

mod admission;
mod away;
mod backup;
mod catalog;
mod changes;
mod chart;
// Beside the others, for it mostly waits; `--test guides` runs it alone.
#[path = "../guides.rs"]
mod guides;
mod input;
mod kubedrctl;
mod location;
mod locks;
mod monitoring;
mod neighbours;
mod operator;
mod places;
mod prune;
mod restore;
mod retention;
mod schedule;
mod source;
mod start;
mod stopped;
mod tree;

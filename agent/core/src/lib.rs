//! What a node is, what it should be, and the steps between. Pure: nothing in
//! this crate reads a file, a clock, the environment or a socket, and its
//! manifest lacks the crates to do so.
//!
//! ```text
//!   observe ──► plan ──► apply ──► verify (observe, plan: nothing left) ──► report
//!      ▲          │
//!      │          └── this crate: `plan`, over `model`, `config` and `checkpoint`
//!      └───────────── the shell, crate `pointsman`
//! ```
//!
//! Invariants:
//! * [`plan`] is a function of settings, observation and checkpoint, nothing else.
//! * A [`plan::Step`] carries every operand; whoever applies it has no choice left.
//! * The way back is a plan too: toward [`checkpoint::Checkpoint`], with the same planners.
//! * Applying a plan and planning again gives an empty plan ([`plan::simulate`] is the
//!   pure half of that proof).

#![deny(clippy::wildcard_enum_match_arm)]

pub mod checkpoint;
pub mod config;
pub mod decision;
pub mod drift;
pub mod error;
pub mod goal;
pub mod guard;
pub mod kernels;
pub mod keys;
pub mod model;
pub mod payload;
pub mod phase;
pub mod plan;
pub mod probe;
pub mod report;
pub mod request;
pub mod rivalry;
pub mod version;

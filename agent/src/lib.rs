//! The shell around `pointsman-core`: everything that touches a host.
//!
//! Each layer has one file per noun: [`observe`] reads, [`apply`] changes;
//! [`netlink`], [`ovsdb`] and `node` are the only places that speak their
//! protocols. [`transaction`] is the only caller of both layers.

pub mod apply;
mod attributes;
pub mod boot;
pub mod cli;
pub mod deadman;
pub mod disk;
pub mod host_command;
pub mod journal;
mod ledger;
mod namespaces;
pub mod netlink;
pub mod node;
pub mod observe;
pub mod ovsdb;
pub mod probe;
pub mod process;
pub mod reconcile;
mod report;
mod spare;
pub mod telemetry;
pub mod transaction;
pub mod watch;

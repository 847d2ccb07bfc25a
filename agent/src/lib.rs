//! The shell around `pointsman-core`: everything that touches a host.
//!
//! Each layer has one file per noun: `observe` reads, `apply` changes, `netlink`,
//! `ovsdb` and `node` are the only places that speak their protocols.

pub mod apply;
pub mod disk;
pub mod host_command;
pub mod netlink;
pub mod observe;
pub mod ovsdb;

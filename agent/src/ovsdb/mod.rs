//! The only place that speaks to OVSDB and to the Open vSwitch daemons.
//!
//! A blocking client of RFC 7047 over a Unix socket: every read and write has a
//! deadline, every reply a size limit, and a server that hangs, dies or talks
//! nonsense is an error, never a hang. A change asserts the rows that it was derived
//! from, so that one made by somebody else in between fails it and it is derived again.

mod change;
mod client;
mod control;
mod error;
mod exit;
mod file;
mod framing;
mod process;
mod row;
mod serving;
mod snapshot;

pub use change::{
    Changed, add_bridge, add_port, ask_for_pass, delete_bridge, end_request_of_number, hold_flows,
    pin_mac, release_flows, remove_port,
};
pub use client::Client;
pub use control::{Answer, ask_daemon};
pub use error::OvsdbError;
pub use exit::tell_to_exit;
pub use file::{database_file, is_file, read_file, remove_port_from_file, sought};
pub use process::{Daemon, daemon_of_run_directory, is_alive, living, runs_in_one_of};
pub use serving::served_file;
pub use snapshot::{InterfaceRow, Snapshot};

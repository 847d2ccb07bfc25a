//! Who else configures the uplink, each row with the real program of Debian.
//!
//! This machine's kernel has no bonding, VLAN, VRF and ipvlan devices: their rows are in the
//! tier of the VM, whose kernel has them. kube-vip and cloud-init are known by files alone,
//! and are with the observers' own tests.

mod bed;
mod daemons;
mod files;
mod leases;
mod mentions;
mod watch;

//! Tests in a virtual machine: real kernel modules, real Open vSwitch on the
//! kernel datapath, real reboots.

mod bed;

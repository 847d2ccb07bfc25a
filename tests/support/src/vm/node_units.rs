//! The node's network in the image with systemd: the same as [`super::network`]'s, and
//! made anew by every boot, as a host's own configuration does it.

use std::time::Duration;

use super::error::Result;
use super::network::{CHECK, PEER};
use super::{Command, Vm};

/// This file: what a snapshot contains follows from it.
pub(super) const SOURCE: &str = include_str!("node_units.rs");

/// interfaces(5): what a reboot brings back.
const INTERFACES: &str = "\
auto lo
iface lo inet loopback

auto eth1
iface eth1 inet static
    address 10.0.2.15/24
    gateway 10.0.2.2
    up ip address add 10.0.2.16/24 brd + dev eth1
    up ip route add 10.88.0.0/24 via 10.0.2.77 dev eth1 src 10.0.2.16
iface eth1 inet6 static
    address fd77::15/64
    gateway fd77::77
    dad-attempts 0
";

/// The far end of the wire belongs to the bed, not to the node: it is there before the
/// node looks.
const PEER_UNIT: &str = "\
[Unit]
Description=The other end of the uplink's wire
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /usr/local/sbin/bed-peer
[Install]
WantedBy=sysinit.target
";

/// See [`Vm::start_ovs`]: a vswitchd of the first ten seconds loses every upcall.
const LATE: &str = "\
[Service]
ExecStartPre=/bin/sh -c 'u=$$(cut -d. -f1 /proc/uptime); [ $$u -ge 12 ] || sleep $$((12 - u))'
";

const START: &str = "
set -e
mkdir -p /etc/systemd/system/sysinit.target.wants
ln -sf ../bed-peer.service /etc/systemd/system/sysinit.target.wants/
systemctl daemon-reload
until systemctl is-system-running | grep -q 'running\\|degraded'; do sleep 0.2; done
systemctl start bed-peer
systemctl restart networking
systemctl stop openvswitch-switch ovs-vswitchd ovsdb-server
rm -f /var/log/openvswitch/*.log
systemctl start openvswitch-switch
! grep -q 'n-handler-threads to 0' /var/log/openvswitch/ovs-vswitchd.log
";

impl Vm {
    /// Gives a node with systemd its peer, its network and Open vSwitch, now and at every
    /// boot from here on. For a VM that has just booted.
    pub fn systemd_node(&self) -> Result<()> {
        self.put("/etc/network/interfaces", INTERFACES.as_bytes(), 0o644)?;
        self.put("/usr/local/sbin/bed-peer", PEER.as_bytes(), 0o755)?;
        self.put("/etc/systemd/system/bed-peer.service", PEER_UNIT.as_bytes(), 0o644)?;
        let late = "/etc/systemd/system/ovs-vswitchd.service.d/late.conf";
        self.put(late, LATE.as_bytes(), 0o644)?;
        let output = self.run(&Command::sh(START).within(Duration::from_secs(180)))?;
        output.succeeded().map_err(|e| self.explain(e))?;
        self.echoes()?;
        self.sh(CHECK).map(drop)
    }
}

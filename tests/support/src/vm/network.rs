//! The node's network inside the VM, and what is at the other end of it.
//!
//! ```text
//! node: eth1 ── wire ── peer0 (a learning bridge in netns `peer`) ── out0 ── QEMU's user network
//! ```
//! Everything, the API server at 10.0.2.2 included, is reached through `eth1`
//! only. The bridge is there because the user network takes any frame for its
//! own: on a hub it would answer the peer's packets with resets and ICMP errors.

use std::time::Duration;

use super::error::Result;
use super::{Command, Vm};

/// The node's uplink.
pub const UPLINK: &str = "eth1";
/// Its hardware address.
pub const UPLINK_MAC: &str = "52:54:00:00:02:15";
/// The uplink's first address; its network has 24 bits.
pub const NODE_V4: &str = "10.0.2.15";
/// The second, in the same network.
pub const NODE_V4_SECOND: &str = "10.0.2.16";
/// The third; its network has 64 bits.
pub const NODE_V6: &str = "fd77::15";
/// This machine's 127.0.0.1, and the IPv4 default gateway.
pub const HOST: &str = "10.0.2.2";
/// The network namespace of the peer.
pub const PEER_NETNS: &str = "peer";
/// The peer on the wire.
pub const PEER_V4: &str = "10.0.2.77";
/// The peer on the wire, and the IPv6 default gateway.
pub const PEER_V6: &str = "fd77::77";
/// The peer behind the route that is pinned to [`NODE_V4_SECOND`].
pub const PEER_ROUTED_V4: &str = "10.88.0.1";
/// The peer behind the IPv6 default route.
pub const PEER_ROUTED_V6: &str = "fd88::1";
/// Behind the IPv4 default route: an address of this machine's test namespace.
pub const DEFAULT_ROUTE_TARGET: &str = "10.99.0.1";
/// Where `bed echo` listens on the node, the peer and [`DEFAULT_ROUTE_TARGET`].
pub const ECHO_PORT: u16 = 7007;

/// This file: what a snapshot contains follows from it.
pub(super) const SOURCE: &str = include_str!("network.rs");

/// `eth0` leads out of the VM, `eth2` is the far end of the uplink's wire.
///
/// With the first chain on a hook, and with the end of the last one, the kernel rewrites its own
/// code (`static_key_slow_inc` in `__nf_register_net_hook`). A processor of QEMU's that executes
/// that code at the same moment (TCG, one thread each) may go on executing the breakpoint that
/// was there in between, for ever. So there is always one more: on an ingress for the shield, on
/// the others for the connection tracking that comes and goes with the module openvswitch, and
/// for its Geneve port a socket that takes packets in UDP.
pub(super) const PEER: &str = "
set -e
nft add table netdev bed
nft add chain netdev bed lo '{ type filter hook ingress device lo priority 0; }'
nft -f - <<'END'
table inet bed {
    chain prerouting { type filter hook prerouting priority 0; }
    chain input { type filter hook input priority 0; }
    chain forward { type filter hook forward priority 0; }
    chain output { type filter hook output priority 0; }
    chain postrouting { type filter hook postrouting priority 0; }
}
END
ip netns add peer
modprobe -a fou fou6
ip -n peer fou add port 5555 ipproto 4
ip -n peer -6 fou add port 5556 ipproto 4
ip link set eth0 netns peer name out0
ip link set eth2 netns peer name wire0
ip -n peer -batch - <<'END'
link set lo up
link add peer0 address 52:54:00:00:02:78 type bridge forward_delay 0 mcast_snooping 0
link set out0 addrgenmode none
link set wire0 addrgenmode none
link set out0 master peer0 up
link set wire0 master peer0 up
link set peer0 up
address add 10.0.2.77/24 dev peer0
address add fd77::77/64 dev peer0 nodad
address add 10.88.0.1/32 dev lo
address add fd88::1/128 dev lo
END
# QEMU's gateway and name server, whose hardware addresses are made of their own.
bridge -n peer -batch - <<'END'
link set dev out0 flood off
fdb replace 52:55:0a:00:02:02 dev out0 master static
fdb replace 52:55:0a:00:02:03 dev out0 master static
END
";

const NODE: &str = "
set -e
ip -batch - <<'END'
link set eth1 up
address add 10.0.2.15/24 brd + dev eth1
address add 10.0.2.16/24 brd + dev eth1
address add fd77::15/64 dev eth1 nodad
route add default via 10.0.2.2 dev eth1
route add 10.88.0.0/24 via 10.0.2.77 dev eth1 src 10.0.2.16
route add ::/0 via fd77::77 dev eth1
END
";

/// One packet each way, which also fills the neighbour tables.
pub(super) const CHECK: &str = "
for target in 10.0.2.77 10.88.0.1 10.0.2.2 fd77::77 fd88::1; do
    ping -n -q -c 1 -i 0.3 -w 20 $target >/dev/null || { echo no answer from $target; exit 1; }
done
";

/// OVS 3.1's vswitchd counts no processors in the first ten seconds of uptime,
/// starts no upcall handlers and loses every upcall.
const OVS: &str = "
set -e
uptime=$(cut -d. -f1 /proc/uptime)
[ $uptime -ge 12 ] || sleep $((12 - uptime))
/usr/share/openvswitch/scripts/ovs-ctl --system-id=node start
! grep -q 'n-handler-threads to 0' /var/log/openvswitch/ovs-vswitchd.log
";

impl Vm {
    /// Makes the peer and gives the node its addresses and routes; starts an echo
    /// on both. For a VM that has just booted.
    pub fn node_network(&self) -> Result<()> {
        self.sh(PEER)?;
        self.sh(NODE)?;
        self.echoes()?;
        self.sh(CHECK).map(drop)
    }

    /// What a host's own boot scripts do: Open vSwitch, then the network. Whether the node
    /// is reachable then is another matter. For a VM that has just booted.
    pub fn boot_scripts(&self) -> Result<()> {
        self.sh(PEER)?;
        self.start_ovs()?;
        self.sh(NODE).map(drop)
    }

    /// Starts an echo on the node and one on the peer.
    pub(super) fn echoes(&self) -> Result<()> {
        // The node's has no address of its own: they come and go.
        self.spawn(&echo(&["::"]))?;
        // The peer answers from the address asked, whatever its routes would choose.
        let peer = [PEER_V4, PEER_V6, PEER_ROUTED_V4, PEER_ROUTED_V6];
        self.spawn(&echo(&peer).netns(PEER_NETNS)).map(drop)
    }

    /// Starts Open vSwitch on the kernel datapath, with no bridge.
    pub fn start_ovs(&self) -> Result<()> {
        let output = self.run(&Command::sh(OVS).within(Duration::from_secs(120)))?;
        output.succeeded().map_err(|e| self.explain(e))
    }
}

fn echo(addresses: &[&str]) -> Command {
    let mut argv = vec!["bed".to_owned(), "echo".to_owned()];
    for address in addresses {
        argv.extend(["--listen".to_owned(), socket(address)]);
    }
    Command::new(argv)
}

/// Where an echo listens on `address`.
pub(super) fn socket(address: &str) -> String {
    let brackets = if address.contains(':') { ["[", "]"] } else { ["", ""] };
    format!("{}{address}{}:{ECHO_PORT}", brackets[0], brackets[1])
}

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Who beside Pointsman configures the uplink and the bridge, what gives the uplink its
/// addresses after a boot, and what names the uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// Programs that have the uplink or the bridge in hand.
    pub claims: Vec<Claim>,
    /// What the host's own files say of the uplink, in the order in which they are read.
    pub persisted: Vec<Persisted>,
    /// Rules and sockets that name the uplink, in plain words.
    pub mentions: Vec<String>,
    /// What is there and could not be read: path and why. A move to the bridge does not
    /// guess what it says.
    pub unread: Vec<String>,
    /// The configuration that this host is written in; none where there is no sign of any.
    pub writer: Option<Writer>,
}

/// One program, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claim {
    /// Which program.
    pub holder: Holder,
    /// The link that it has in hand.
    pub link: String,
    /// Where that is seen, in plain words.
    pub evidence: String,
}

/// Somebody or something that a move of addresses has to reckon with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holder {
    /// `NetworkManager`, managing the link.
    NetworkManager,
    /// `NetworkManager` runs, and leaves the link alone.
    NetworkManagerAway,
    /// systemd-networkd, configuring the link.
    Networkd,
    /// systemd-networkd runs, and leaves the link alone.
    NetworkdAway,
    /// ifupdown: `ifup` at boot, nothing that stays.
    Ifupdown,
    /// netplan writes the configuration of another program.
    Netplan,
    /// cloud-init writes the network configuration at boot.
    CloudInit,
    /// A DHCP client has the address from a server.
    Dhcp,
    /// keepalived, by VRRP.
    Keepalived,
    /// kube-vip, by ARP.
    KubeVip,
    /// systemd-resolved asks name servers that are the link's.
    LinkDns,
    /// The uplink is a bond whose modes answer ARP with many MACs (`balance-tlb`, `balance-alb`).
    BondOfManyMacs,
    /// The uplink is a bond that changes its MAC (`fail_over_mac=active`).
    BondChangingMac,
    /// The uplink is a bond of another mode.
    Bond,
    /// The uplink is a team.
    Team,
    /// The uplink is a VLAN device.
    Vlan,
    /// A VLAN device lies on the uplink.
    VlanAbove,
    /// A macvlan, macvtap or ipvlan device lies on the uplink.
    MacvlanAbove,
    /// The uplink is in a VRF.
    Vrf,
    /// The uplink is a port of a bond, team or bridge.
    Port,
}

/// What writes a host's network configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    /// interfaces(5).
    Ifupdown,
    /// `/etc/sysconfig/network-scripts/ifcfg-*`.
    Ifcfg,
    /// `/etc/netplan/*.yaml`.
    Netplan,
    /// `/etc/NetworkManager/system-connections/*.nmconnection`.
    Keyfile,
    /// `/etc/systemd/network/*.network`.
    Networkd,
}

/// A file of the host that configures the uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persisted {
    /// Its syntax.
    pub writer: Writer,
    /// Its path on the host.
    pub file: String,
    /// Whether the link is configured at boot without being asked for.
    pub at_boot: bool,
    /// Whether addresses come from DHCP or a router.
    pub automatic: bool,
    /// The addresses that it gives.
    pub addresses: Vec<PersistedAddress>,
    /// Every address that it names, gateways among them.
    pub names: Vec<IpAddr>,
}

/// An address in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PersistedAddress {
    /// The address.
    pub ip: IpAddr,
    /// Bits; none where the file leaves them to the program.
    pub prefix_len: Option<u8>,
}

impl Persisted {
    /// Whether it gives an address back at boot.
    pub fn gives(&self, ip: IpAddr, prefix_len: u8) -> bool {
        self.at_boot
            && self
                .addresses
                .iter()
                .any(|own| own.ip == ip && own.prefix_len.is_none_or(|bits| bits == prefix_len))
    }
}

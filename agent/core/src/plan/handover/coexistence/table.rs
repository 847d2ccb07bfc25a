//! The table: who, what it means, why, and the configuration that is missing.

use crate::model::Holder;

/// What a holder means for a move to the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Move; the row's words are a note of the plan.
    Proceed,
    /// Do not move, with this reason, unless `node.accept` holds it.
    Refuse(&'static str),
    /// Do not move, with this reason, which nothing overrides: it could not work.
    Never(&'static str),
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Who.
    pub holder: Holder,
    /// In a person's words.
    pub title: &'static str,
    /// What it means.
    pub decision: Decision,
    /// Why.
    pub why: &'static str,
    /// The configuration that is missing; UPLINK and BRIDGE stand for their names.
    pub lines: &'static [&'static str],
}

const fn row(
    holder: Holder,
    title: &'static str,
    decision: Decision,
    why: &'static str,
    lines: &'static [&'static str],
) -> Row {
    Row { holder, title, decision, why, lines }
}

impl Row {
    /// The row as it stands in the reference.
    pub fn in_reference(&self) -> String {
        let decision = match self.decision {
            Decision::Proceed => "proceed".to_owned(),
            Decision::Refuse(reason) => format!("`{reason}`"),
            Decision::Never(reason) => format!("`{reason}`, always"),
        };
        let lines: Vec<String> = self.lines.iter().map(|line| format!("`{line}`")).collect();
        format!("| {} | {decision} | {} | {} |", self.title, self.why, lines.join(" "))
    }
}

/// Every holder, in the order of the reference.
pub const TABLE: &[Row] = &[
    row(
        Holder::NetworkManager,
        "NetworkManager manages the link",
        Decision::Refuse("ManagedByNetworkManager"),
        "it puts its addresses and routes back on UPLINK when it restarts or a profile is activated. Told to leave the link alone it takes the addresses away, so reboot after that instead of reloading; from then on something else has to configure UPLINK at boot",
        &[
            "/etc/NetworkManager/conf.d/90-pointsman.conf:",
            "[keyfile]",
            "unmanaged-devices+=interface-name:UPLINK;interface-name:BRIDGE",
        ],
    ),
    row(
        Holder::NetworkManagerAway,
        "NetworkManager runs and leaves the link alone",
        Decision::Proceed,
        "it changes only links that it manages",
        &[],
    ),
    row(
        Holder::Networkd,
        "systemd-networkd configures the link",
        Decision::Refuse("ManagedByNetworkd"),
        "it puts its addresses and routes back on UPLINK when it restarts or the carrier comes back. Told to leave the link alone it takes the addresses away, so reboot after that instead of reloading; from then on something else has to configure UPLINK at boot",
        &[
            "/etc/systemd/network/00-pointsman.network:",
            "[Match]",
            "Name=UPLINK BRIDGE",
            "[Link]",
            "Unmanaged=yes",
        ],
    ),
    row(
        Holder::NetworkdAway,
        "systemd-networkd runs and leaves the link alone",
        Decision::Proceed,
        "it changes only links that it configures",
        &[],
    ),
    row(
        Holder::Ifupdown,
        "ifupdown brought the link up",
        Decision::Proceed,
        "it acts at boot and when called, and nothing of it stays; do not call ifdown or ifup for UPLINK while BRIDGE owns the addresses",
        &[],
    ),
    row(
        Holder::Netplan,
        "netplan describes the link",
        Decision::Proceed,
        "its renderer is judged by itself; `netplan apply` puts the addresses back on UPLINK",
        &[],
    ),
    row(
        Holder::CloudInit,
        "cloud-init writes the network configuration",
        Decision::Proceed,
        "it may write that of UPLINK anew when the machine boots as another instance",
        &["/etc/cloud/cloud.cfg.d/99-pointsman.cfg:", "network: {config: disabled}"],
    ),
    row(
        Holder::Dhcp,
        "a client of DHCP or DHCPv6 leases an address of the link",
        Decision::Refuse("UplinkDhcp"),
        "a port of a bridge hears no answer of the server, so the lease ends and the node loses its address; give UPLINK a static configuration",
        &[],
    ),
    row(
        Holder::Keepalived,
        "keepalived runs VRRP on the link",
        Decision::Refuse("VipOnUplink"),
        "a port of a bridge hears no advertisement of the others, so several nodes would claim the address",
        &[
            "/etc/keepalived/keepalived.conf:",
            "global_defs { dynamic_interfaces allow_if_changes }",
            "interface BRIDGE",
        ],
    ),
    row(
        Holder::KubeVip,
        "kube-vip announces an address on the link",
        Decision::Refuse("VipOnUplink"),
        "it adds the address to UPLINK again, where nobody would answer for it",
        &[
            "/etc/kubernetes/manifests/kube-vip.yaml, in env:",
            "- name: vip_interface",
            "  value: BRIDGE",
        ],
    ),
    row(
        Holder::LinkDns,
        "systemd-resolved asks name servers of the link",
        Decision::Refuse("UplinkDns"),
        "it asks the name servers of a link only while the link has an address",
        &["/etc/systemd/resolved.conf.d/90-pointsman.conf:", "[Resolve]", "DNS=SERVERS"],
    ),
    row(
        Holder::BondOfManyMacs,
        "the uplink is a bond of mode balance-tlb or balance-alb",
        Decision::Refuse("BondMode"),
        "it answers with the MACs of its ports, and BRIDGE has but one; use active-backup, 802.3ad or balance-xor",
        &[],
    ),
    row(
        Holder::BondChangingMac,
        "the uplink is a bond with fail_over_mac=active",
        Decision::Refuse("BondMode"),
        "it changes its MAC with the port, and that of BRIDGE stays; use fail_over_mac=none or follow",
        &[],
    ),
    row(
        Holder::Bond,
        "the uplink is a bond of another mode",
        Decision::Proceed,
        "its MAC stays whichever port carries the frames",
        &[],
    ),
    row(
        Holder::Team,
        "the uplink is a team",
        Decision::Proceed,
        "its MAC stays; teamd must not take it down",
        &[],
    ),
    row(
        Holder::Vlan,
        "the uplink is a VLAN device",
        Decision::Proceed,
        "frames reach BRIDGE without the tag and leave with it",
        &[],
    ),
    row(
        Holder::VlanAbove,
        "a VLAN device lies on the uplink",
        Decision::Proceed,
        "its frames go to it and never to BRIDGE; it keeps its addresses",
        &[],
    ),
    row(
        Holder::MacvlanAbove,
        "a macvlan, macvtap or ipvlan device lies on the uplink",
        Decision::Never("UplinkHasChildren"),
        "the kernel lets only one of both take the frames of UPLINK; remove the device, or put it on BRIDGE",
        &[],
    ),
    row(
        Holder::Vrf,
        "the uplink is in a VRF",
        Decision::Never("UplinkEnslaved"),
        "a link has one master, and this one's routes are not in table main; take UPLINK out of it",
        &[],
    ),
    row(
        Holder::Port,
        "the uplink is a port of a bond, team or bridge",
        Decision::Never("UplinkEnslaved"),
        "a link has one master; name that one as uplink, or take UPLINK out of it",
        &[],
    ),
];

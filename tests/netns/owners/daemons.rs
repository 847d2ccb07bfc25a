//! `NetworkManager`, systemd-networkd, systemd-resolved and keepalived: what they do to an
//! address that is taken away is the reason of their rows, and is witnessed here.

use super::super::{NIC, ip};
use super::bed::{Bed, wait_for};
use pointsman_core::model::Holder;
use pointsman_core::plan::handover::Owner;

const PROFILE: &str = "[connection]\nid=up\nuuid=11111111-2222-3333-4444-555555555555\n\
    type=ethernet\ninterface-name=eth1\n[ipv4]\nmethod=manual\naddress1=10.77.0.2/24,10.77.0.1\n\
    [ipv6]\nmethod=manual\naddress1=fd77::2/64\n";
/// The other NICs are none of its business.
const CONF: &str = "[main]\nplugins=keyfile\nno-auto-default=*\n[keyfile]\n\
    unmanaged-devices=interface-name:eth0;interface-name:*-peer\n";
const NETWORK: &str = "[Match]\nName=eth1\n[Network]\nAddress=10.77.0.2/24\nAddress=fd77::2/64\n\
    Gateway=10.77.0.1\nDNS=10.77.0.53\n";

fn network_manager(bed: &mut Bed) {
    bed.start("NetworkManager --debug --log-level=INFO");
}

/// As its unit starts it: without root, with the capabilities of the network.
pub fn networkd(bed: &mut Bed) {
    bed.run("mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp");
    bed.run("chown -R systemd-network:systemd-network /run/systemd/netif");
    let all = "+net_admin,+net_raw,+net_bind_service,+net_broadcast";
    bed.start(&format!(
        "setpriv --reuid systemd-network --regid systemd-network --clear-groups \
         --inh-caps={all} --ambient-caps={all} /lib/systemd/systemd-networkd"
    ));
}

fn flush() {
    ip(&format!("address flush dev {NIC} scope global"));
}

#[test]
fn network_manager_puts_the_address_back_when_it_restarts() {
    let mut bed = Bed::enter();
    bed.start_bus();
    bed.put("/etc/NetworkManager/NetworkManager.conf", CONF);
    bed.put("/etc/NetworkManager/system-connections/up.nmconnection", PROFILE);
    network_manager(&mut bed);
    bed.wait_for_address("10.77.0.2/24", true);
    bed.wait_for_address("fd77::2/64", true);
    wait_for("the state file", || !bed.claims(Holder::NetworkManager).is_empty());
    let evidence = &bed.claims(Holder::NetworkManager)[0].evidence;
    let (reason, message) = bed.refusal(&[]);
    assert_eq!(reason, "ManagedByNetworkManager", "{message}");
    let lines = "unmanaged-devices+=interface-name:eth1;interface-name:br-int";
    assert!(message.contains(lines) && message.contains(evidence), "{message}");
    // its keyfile is what gives the address back at boot
    let notes = bed.notes(&["ManagedByNetworkManager"]);
    assert!(notes.contains("accepted: ") && !notes.contains("UplinkNotPersistent"), "{notes}");
    assert!(bed.plan_to(Owner::Uplink, &[]).is_ok());

    flush();
    bed.stop();
    network_manager(&mut bed);
    bed.wait_for_address("10.77.0.2/24", true);
}

#[test]
fn network_manager_that_leaves_the_link_alone_is_no_hindrance() {
    let mut bed = Bed::enter();
    bed.start_bus();
    bed.put("/etc/NetworkManager/NetworkManager.conf", CONF);
    bed.put("/etc/NetworkManager/system-connections/up.nmconnection", PROFILE);
    // the line of the refusal, with the bridge's name
    bed.put(
        "/etc/NetworkManager/conf.d/90-pointsman.conf",
        "[keyfile]\nunmanaged-devices+=interface-name:eth1;interface-name:br-int\n",
    );
    ip(&format!("address add 10.77.0.2/24 dev {NIC}"));
    network_manager(&mut bed);
    wait_for("NetworkManager", || bed.logs().contains("startup complete"));
    let [claim] = bed.claims(Holder::NetworkManagerAway).try_into().unwrap();
    assert!(claim.evidence.contains("90-pointsman.conf"), "{claim:?}");
    assert_eq!(bed.claims(Holder::NetworkManager), []);
    // and now nothing gives the address back at boot, whatever its profile says
    let (reason, message) = bed.refusal(&[]);
    assert_eq!(reason, "UplinkNotPersistent", "{message}");
    assert!(message.contains("up.nmconnection: not at boot"), "{message}");
    let notes = bed.notes(&["UplinkNotPersistent"]);
    assert!(notes.contains("leaves the link alone"), "{notes}");
}

#[test]
fn networkd_puts_the_address_back_when_the_carrier_comes_back() {
    let mut bed = Bed::enter();
    bed.start_bus();
    bed.put("/etc/systemd/network/10-up.network", NETWORK);
    networkd(&mut bed);
    bed.wait_for_address("10.77.0.2/24", true);
    bed.wait_for_address("fd77::2/64", true);
    wait_for("the state file", || !bed.claims(Holder::Networkd).is_empty());
    let (reason, message) = bed.refusal(&[]);
    assert_eq!(reason, "ManagedByNetworkd", "{message}");
    for word in ["Name=eth1 br-int", "Unmanaged=yes", "/etc/systemd/network/10-up.network"] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    let notes = bed.notes(&["ManagedByNetworkd"]);
    assert!(notes.contains("accepted: ") && !notes.contains("UplinkNotPersistent"), "{notes}");

    flush();
    ip("link set eth1-peer down");
    wait_for("the carrier to go", || ip("-o link show dev eth1").contains("NO-CARRIER"));
    ip("link set eth1-peer up");
    bed.wait_for_address("10.77.0.2/24", true);
}

#[test]
fn networkd_that_leaves_the_link_alone_is_no_hindrance() {
    let mut bed = Bed::enter();
    bed.start_bus();
    bed.put("/etc/systemd/network/10-up.network", NETWORK);
    let own = "[Match]\nName=eth1 br-int\n[Link]\nUnmanaged=yes\n";
    bed.put("/etc/systemd/network/00-pointsman.network", own);
    ip(&format!("address add 10.77.0.2/24 dev {NIC}"));
    networkd(&mut bed);
    wait_for("the state file", || {
        bed.claims(Holder::NetworkdAway).iter().any(|claim| claim.evidence.contains("unmanaged"))
    });
    assert_eq!(bed.claims(Holder::Networkd), []);
    let (reason, message) = bed.refusal(&[]);
    assert_eq!(reason, "UplinkNotPersistent", "{message}");
    let notes = bed.notes(&["UplinkNotPersistent"]);
    assert!(notes.contains("leaves the link alone"), "{notes}");
}

#[test]
fn resolved_asks_no_name_server_of_a_link_without_addresses() {
    let mut bed = Bed::enter();
    bed.start_bus();
    bed.put("/etc/systemd/network/10-up.network", NETWORK);
    networkd(&mut bed);
    bed.wait_for_address("10.77.0.2/24", true);
    bed.run("mkdir -p /run/systemd/resolve");
    bed.run("chown systemd-resolve:systemd-resolve /run/systemd/resolve");
    bed.start("/lib/systemd/systemd-resolved");
    wait_for("the claim", || !bed.claims(Holder::LinkDns).is_empty());
    let asked = || bed.run("resolvectl status eth1").contains("Current Scopes: DNS");
    wait_for("the servers to be asked", asked);
    let (reason, message) = bed.refusal(&["ManagedByNetworkd"]);
    assert_eq!(reason, "UplinkDns", "{message}");
    assert!(message.contains("DNS=10.77.0.53\n"), "{message}");
    bed.put("/etc/systemd/resolved.conf.d/90-pointsman.conf", "[Resolve]\nDNS=10.77.0.53\n");
    assert_eq!(bed.claims(Holder::LinkDns), []);
    bed.notes(&["ManagedByNetworkd"]);

    flush();
    wait_for("the servers not to be asked", || !asked());
}

#[test]
fn keepalived_on_the_uplink() {
    let mut bed = Bed::enter();
    ip(&format!("address add 10.77.0.2/24 dev {NIC}"));
    let conf = "vrrp_instance a {\n interface eth1\n state MASTER\n virtual_router_id 7\n \
        priority 200\n advert_int 1\n virtual_ipaddress {\n 10.77.0.99/32 dev eth1\n }\n}\n";
    bed.put("/etc/keepalived/keepalived.conf", conf);
    assert_eq!(bed.claims(Holder::Keepalived), [], "it does not run");
    bed.start("keepalived -n -l");
    bed.wait_for_address("10.77.0.99/32", true);
    let (reason, message) = bed.refusal(&["UplinkNotPersistent"]);
    assert_eq!(reason, "VipOnUplink", "{message}");
    for word in ["interface br-int", "says `interface eth1`", "dynamic_interfaces"] {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    let notes = bed.notes(&["UplinkNotPersistent", "VipOnUplink"]);
    assert!(notes.contains("accepted: eth1: keepalived"), "{notes}");
}

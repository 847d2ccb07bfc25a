//! DHCP on the uplink, by five clients.

use super::super::ip;
use super::bed::{Bed, wait_for};
use super::daemons::networkd;
use pointsman_core::model::Holder;
use pointsman_core::plan::handover::Owner;

/// A server at the other end of the uplink's wire.
fn server(bed: &mut Bed) {
    ip("address add 10.77.0.1/24 dev eth1-peer");
    bed.start(
        "dnsmasq -k -C /dev/null --port=0 --interface=eth1-peer --bind-dynamic --user=root \
         --dhcp-range=10.77.0.50,10.77.0.60,600s --dhcp-leasefile=/run/leases",
    );
}

/// One of DHCPv6, whose leases no router advertises.
fn server6(bed: &mut Bed) {
    ip("address add fd00:77::1/64 dev eth1-peer nodad");
    bed.start(
        "dnsmasq -k -C /dev/null --port=0 --interface=eth1-peer --bind-dynamic --user=root \
         --dhcp-range=fd00:77::50,fd00:77::5f,64,600s --dhcp-leasefile=/run/leases6",
    );
    // a client binds to an address that is no longer looked for
    wait_for("the link-local addresses", || {
        let tentative = |link: &str| ip(&format!("-6 address show dev {link} tentative"));
        ip("-6 address show dev eth1").contains("fe80")
            && ["eth1", "eth1-peer"].iter().all(|link| tentative(link).is_empty())
    });
}

#[track_caller]
fn is_refused(bed: &Bed, accept: &[&str], words: &str) {
    let (reason, message) = bed.refusal(accept);
    assert_eq!(reason, "UplinkDhcp", "{message}");
    assert!(message.contains(words), "{words} is not in {message}");
    let accepted = [accept, &["UplinkDhcp"]].concat();
    let notes = bed.notes(&accepted);
    assert!(notes.contains("accepted: "), "{notes}");
    assert!(bed.plan_to(Owner::Uplink, &[]).is_ok());
}

#[test]
fn dhclient() {
    let mut bed = Bed::enter();
    server(&mut bed);
    bed.start("dhclient -d -v eth1");
    bed.wait_for_address("10.77.0.5", true);
    is_refused(&bed, &[], "dhclient -d -v eth1");
    // dead, it leaves an address that nobody renews: the kernel knows that it ends
    bed.stop();
    assert_eq!(bed.claims(Holder::Dhcp), []);
    is_refused(&bed, &[], "so somebody renews it");
}

#[test]
fn dhclient_of_ipv6() {
    let mut bed = Bed::enter();
    server6(&mut bed);
    bed.start("dhclient -6 -d -v eth1");
    bed.wait_for_address("fd00:77::5", true);
    is_refused(&bed, &[], "dhclient -6 -d -v eth1");
    // dead, it leaves an address that nobody renews: the kernel knows that it ends
    bed.stop();
    assert_eq!(bed.claims(Holder::Dhcp), []);
    is_refused(&bed, &[], "so somebody renews it");
}

#[test]
fn networkds_own_client_of_ipv6() {
    let mut bed = Bed::enter();
    bed.start_bus();
    server6(&mut bed);
    let network = "[Match]\nName=eth1\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=no\n\
        LinkLocalAddressing=ipv6\n[DHCPv6]\nWithoutRA=solicit\n";
    bed.put("/etc/systemd/network/10-up.network", network);
    networkd(&mut bed);
    bed.wait_for_address("fd00:77::5", true);
    is_refused(&bed, &["ManagedByNetworkd"], "so somebody renews it");
}

/// It parts into processes that rename themselves.
#[test]
fn dhcpcd() {
    let mut bed = Bed::enter();
    server(&mut bed);
    bed.start("dhcpcd --nobackground --ipv4only eth1");
    bed.wait_for_address("10.77.0.5", true);
    is_refused(&bed, &[], "dhcpcd");
    assert_ne!(bed.claims(Holder::Dhcp), []);
}

#[test]
fn udhcpc() {
    let mut bed = Bed::enter();
    ip("address add 10.77.0.2/24 dev eth1");
    bed.start("busybox udhcpc -f -i eth1");
    wait_for("the process", || !bed.claims(Holder::Dhcp).is_empty());
    is_refused(&bed, &["UplinkNotPersistent"], "busybox udhcpc -f -i eth1");
}

#[test]
fn a_client_of_another_link_is_no_hindrance() {
    let mut bed = Bed::enter();
    ip("address add 10.77.0.2/24 dev eth1");
    bed.start("busybox udhcpc -f -i eth0");
    std::thread::sleep(std::time::Duration::from_millis(300));
    bed.notes(&["UplinkNotPersistent"]);
}

#[test]
fn networkds_own_client() {
    let mut bed = Bed::enter();
    bed.start_bus();
    server(&mut bed);
    bed.put("/etc/systemd/network/10-up.network", "[Match]\nName=eth1\n[Network]\nDHCP=ipv4\n");
    networkd(&mut bed);
    bed.wait_for_address("10.77.0.5", true);
    wait_for("the lease", || !bed.claims(Holder::Dhcp).is_empty());
    is_refused(&bed, &["ManagedByNetworkd"], "/run/systemd/netif/leases/");
}

#[test]
fn network_managers_own_client() {
    let mut bed = Bed::enter();
    bed.start_bus();
    server(&mut bed);
    bed.put(
        "/etc/NetworkManager/NetworkManager.conf",
        "[main]\nplugins=keyfile\nno-auto-default=*\ndhcp=internal\n[keyfile]\n\
         unmanaged-devices=interface-name:eth0;interface-name:*-peer\n",
    );
    bed.put(
        "/etc/NetworkManager/system-connections/up.nmconnection",
        "[connection]\nid=up\nuuid=11111111-2222-3333-4444-555555555555\ntype=ethernet\n\
         interface-name=eth1\n[ipv4]\nmethod=auto\n[ipv6]\nmethod=disabled\n",
    );
    bed.start("NetworkManager --debug --log-level=INFO");
    bed.wait_for_address("10.77.0.5", true);
    is_refused(&bed, &["ManagedByNetworkManager"], "so somebody renews it");
}

//! What acts at boot alone: ifupdown, netplan and cloud-init; and devices that the kernel has.

use super::super::{NIC, ip, read};
use super::bed::Bed;
use pointsman_core::model::{Holder, Persisted, Writer};

fn of(bed: &Bed, writer: Writer) -> Vec<Persisted> {
    let mut found = bed.owners().persisted;
    found.retain(|file| file.writer == writer);
    found
}

/// Every address that the program gives the uplink, our reading of its file gives too.
#[track_caller]
fn all_given(files: &[Persisted]) {
    let network = read();
    let own = network.addresses.iter().filter(|a| a.link == NIC && a.scope == 0);
    let own: Vec<_> = own.collect();
    assert!(!own.is_empty());
    for address in own {
        let given = files.iter().any(|file| file.gives(address.ip, address.prefix_len));
        assert!(given, "{address} is in none of {files:#?}");
    }
}

#[test]
fn ifupdown_gives_what_its_files_say() {
    let bed = Bed::enter();
    ip("link set eth1 down");
    bed.put(
        "/etc/network/interfaces",
        "source /etc/network/interfaces.d/*\nauto eth1\niface eth1 inet static\n  \
         address 10.77.0.2\n  netmask 255.255.255.0\n  gateway 10.77.0.1\n  \
         up ip addr add 10.77.0.3/24 dev $IFACE\n  post-up /sbin/ip addr add 10.88.0.2/16 dev eth1\n",
    );
    bed.put(
        "/etc/network/interfaces.d/more",
        "iface eth1 inet static\n  address 10.66.0.2/24\niface eth1 inet6 static\n  \
         address fd77::2/64\n  dad-attempts 0\n",
    );
    bed.run("ifup eth1");
    all_given(&of(&bed, Writer::Ifupdown));
    let notes = bed.notes(&[]);
    assert!(notes.contains("ifupdown brought the link up"), "{notes}");
    assert!(!notes.contains("is in no file"), "{notes}");
    // one more by hand, and it is missed
    ip("address add 10.77.0.9/24 dev eth1");
    let (reason, message) = bed.refusal(&[]);
    assert_eq!(reason, "UplinkNotPersistent", "{message}");
    assert!(message.contains("eth1 has 10.77.0.9/24, and nothing"), "{message}");
    bed.run("ifdown --force eth1");
    assert_eq!(bed.claims(Holder::Ifupdown), []);
}

/// The lines of the refusal, put where it says, do what they should.
#[test]
fn the_lines_of_the_refusal_are_what_ifupdown_needs() {
    let bed = Bed::enter();
    for address in ["10.77.0.2/24", "10.77.0.3/24", "10.88.0.2/16"] {
        ip(&format!("address add {address} dev eth1"));
    }
    ip("address add fd77::2/64 dev eth1 nodad");
    ip("route add default via 10.77.0.1");
    // only ifupdown is what this host is configured by
    for program in ["/usr/sbin/NetworkManager", "/etc/systemd/system/multi-user.target.wants"] {
        bed.run(&format!("rm -rf {program}"));
    }
    let (reason, message) = bed.refusal(&[]);
    assert_eq!(reason, "UplinkNotPersistent", "{message}");
    let (_, lines) = message.split_once("/etc/network/interfaces:\n").unwrap();
    let (lines, _) = lines.split_once("\nor set").unwrap();
    bed.put("/etc/network/interfaces", &format!("{lines}\n"));
    let before = (addresses(), ip("route show default dev eth1"));
    ip("address flush dev eth1 scope global");
    ip("link set eth1 down");
    bed.run("ifup --no-scripts eth1");
    // ifupdown runs `up` commands with its scripts only
    ip("address flush dev eth1 scope global");
    bed.run("ifdown --force eth1");
    bed.run("ifup eth1");
    assert_eq!((addresses(), ip("route show default dev eth1")), before);
    bed.notes(&[]);
}

fn addresses() -> Vec<String> {
    let network = read();
    let own = network.addresses.iter().filter(|a| a.link == NIC && a.scope == 0);
    let mut all: Vec<String> = own.map(ToString::to_string).collect();
    all.sort();
    all
}

/// netplan's own generator is the second reader of its files.
#[test]
fn netplan_is_read_as_its_generator_reads_it() {
    let bed = Bed::enter();
    bed.put(
        "/etc/netplan/01.yaml",
        "# the uplink\nnetwork:\n  version: 2\n  renderer: networkd\n  ethernets:\n    eth1:\n      \
         addresses: [10.77.0.2/24, \"fd77::2/64\"]\n      routes:\n      - to: default\n        \
         via: 10.77.0.1\n      nameservers: {addresses: [10.77.0.53]}\n",
    );
    bed.put(
        "/etc/netplan/50-more.yaml",
        "network:\n  ethernets:\n    eth1:\n      addresses:\n      - 10.77.0.3/24:\n          \
         label: \"eth1:a\"\n      - '10.88.0.2/16'\n",
    );
    bed.run("netplan generate");
    let generated = bed.run("cat /run/systemd/network/10-netplan-eth1.network");
    let files = of(&bed, Writer::Netplan);
    let mut said: Vec<&str> =
        generated.lines().filter_map(|line| line.strip_prefix("Address=")).collect();
    said.sort_unstable();
    let own = files.iter().flat_map(|file| &file.addresses);
    let mut ours: Vec<String> =
        own.map(|own| format!("{}/{}", own.ip, own.prefix_len.unwrap())).collect();
    ours.sort();
    assert_eq!(ours, said, "{generated}");
    ip("address add 10.77.0.3/24 dev eth1");
    let notes = bed.notes(&[]);
    assert!(notes.contains("netplan describes the link"), "{notes}");
}

/// It writes what a data source says into another program's files, until it is told not to.
#[test]
fn cloud_init_until_it_is_told() {
    const WRITTEN: &str = "/etc/network/interfaces.d/50-cloud-init";
    let bed = Bed::enter();
    ip("link set eth1 address 02:00:00:00:00:15");
    let seed = "/var/lib/cloud/seed/nocloud";
    bed.put(&format!("{seed}/user-data"), "#cloud-config\n");
    bed.put(&format!("{seed}/meta-data"), "instance-id: one\n");
    bed.put(
        &format!("{seed}/network-config"),
        "version: 1\nconfig:\n- type: physical\n  name: eth1\n  mac_address: '02:00:00:00:00:15'\n  \
         subnets:\n  - {type: static, address: 10.77.0.2/24, gateway: 10.77.0.1}\n",
    );
    bed.put("/etc/cloud/cloud.cfg.d/50-here.cfg", "datasource_list: [NoCloud]\n");
    bed.put(
        "/etc/cloud/cloud.cfg.d/51-here.cfg",
        "system_info:\n  network:\n    renderers: [eni]\n",
    );
    bed.put("/etc/network/interfaces", "source /etc/network/interfaces.d/*\n");
    assert_eq!(bed.claims(Holder::CloudInit), []);
    bed.run("cloud-init init --local");
    let written = |bed: &Bed| std::fs::read_to_string(bed.root().join(&WRITTEN[1..])).unwrap();
    assert!(written(&bed).contains("address 10.77.0.2/24"), "{}", written(&bed));
    ip("link set eth1 up");
    ip("address add 10.77.0.2/24 dev eth1");
    all_given(&of(&bed, Writer::Ifupdown));
    let notes = bed.notes(&[]);
    assert!(notes.contains("cloud-init writes the network configuration"), "{notes}");

    // another instance: what is written by hand stays only where cloud-init is told
    let own = "auto eth1\niface eth1 inet static\n  address 10.77.0.9/24\n";
    for (told, stays) in [(false, false), (true, true)] {
        if told {
            bed.put("/etc/cloud/cloud.cfg.d/99-pointsman.cfg", "network: {config: disabled}\n");
            assert_eq!(bed.claims(Holder::CloudInit), []);
        }
        bed.put(WRITTEN, own);
        bed.put(&format!("{seed}/meta-data"), &format!("instance-id: told-{told}\n"));
        bed.run("cloud-init clean");
        bed.run("cloud-init init --local");
        assert_eq!(written(&bed) == own, stays, "{}", written(&bed));
    }
}

/// The kernel itself is the witness that one device takes the frames.
#[test]
fn a_macvlan_on_the_uplink() {
    let bed = Bed::enter();
    ip("address add 10.77.0.2/24 dev eth1");
    bed.notes(&["UplinkNotPersistent"]);
    ip("link add link eth1 name mv0 type macvlan mode bridge");
    let (reason, message) = bed.refusal(&["UplinkNotPersistent"]);
    assert_eq!(reason, "UplinkHasChildren", "{message}");
    assert!(message.contains("mv0"), "{message}");
    ip("link add br9 type bridge");
    let output = std::process::Command::new("ip")
        .args(["link", "set", "eth1", "master", "br9"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("busy"), "{output:?}");
    ip("link del mv0");
    ip("link set eth1 master br9");
    let (reason, message) = bed.refusal(&["UplinkNotPersistent"]);
    assert_eq!(reason, "UplinkEnslaved", "{message}");
    assert!(message.contains("br9"), "{message}");
}

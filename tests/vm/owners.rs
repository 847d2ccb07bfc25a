//! Who else has the uplink in hand: the rows whose devices the kernel of the machine that runs
//! the tests may not have. The others are in the tier of namespaces.

use support::node::Node;
use support::vm::Result;

struct Case {
    /// Makes the devices.
    make: &'static str,
    uplink: &'static str,
    /// 2: the plan is made, and has the words; 3: it is refused with them.
    code: i32,
    words: &'static [&'static str],
    /// Takes them away.
    remove: &'static str,
}

const BOND: &str = "ip link add v0 type veth peer v1; \
    ip link set v0 master up0; ip link set v0 up; ip link set v1 up; ip link set up0 up; \
    ip address add 10.50.0.2/24 dev up0";
const NO_BOND: &str = "ip link del up0; ip link del v0";

fn cases() -> Vec<Case> {
    let bond = |make, code, words| Case { make, uplink: "up0", code, words, remove: NO_BOND };
    vec![
        bond("mode balance-alb", 3, &["BondMode: ", "up0", "balance-alb (mode 6)"]),
        bond("mode balance-tlb", 3, &["BondMode: ", "up0", "mode 5"]),
        bond("mode active-backup fail_over_mac active", 3, &["BondMode: ", "fail_over_mac=active"]),
        bond("mode active-backup fail_over_mac follow", 2, &["a bond of another mode (mode 1)"]),
        bond("mode 802.3ad", 2, &["a bond of another mode (mode 4)"]),
        Case {
            make: "modprobe team; ip link add v0 type veth peer v1; \
                   teamd -d -t up0 -c '{\"runner\": {\"name\": \"activebackup\"}}'; \
                   teamdctl up0 port add v0; ip link set v0 up; ip link set v1 up; \
                   ip link set up0 up; ip address add 10.50.0.2/24 dev up0",
            uplink: "up0",
            code: 2,
            words: &["the uplink is a team (kind team)"],
            remove: "teamd -k -t up0; ip link del v0",
        },
        Case { uplink: "v0", ..bond("mode balance-rr", 3, &["UplinkEnslaved: ", "up0"]) },
        Case {
            make: "modprobe mpls_router; echo 1000 >/proc/sys/net/mpls/platform_labels; \
                   ip -f mpls route add 100 via inet 10.0.2.77 dev eth1",
            uplink: "eth1",
            code: 2,
            words: &["1 MPLS label routes leave by eth1"],
            remove: "ip -f mpls route del 100",
        },
        Case {
            make: "ip link add link eth1 name eth1.5 type vlan id 5",
            uplink: "eth1",
            code: 2,
            words: &["a VLAN device lies on the uplink (eth1.5)"],
            remove: "true",
        },
        Case {
            make: "ip link set eth1.5 up; ip address add 10.55.0.2/24 dev eth1.5",
            uplink: "eth1.5",
            code: 2,
            words: &["the uplink is a VLAN device (on eth1)"],
            remove: "ip link del eth1.5",
        },
        Case {
            make: "ip link add w0 type veth peer w1; ip link add vrf0 type vrf table 10; \
                   ip link set w0 master vrf0; ip link set w0 up; ip address add 10.60.0.2/24 dev w0",
            uplink: "w0",
            code: 3,
            words: &["UplinkEnslaved: ", "vrf0"],
            remove: "ip link del vrf0",
        },
        Case {
            make: "ip link add link w0 name iv0 type ipvlan mode l2",
            uplink: "w0",
            code: 3,
            words: &["UplinkHasChildren: ", "iv0"],
            remove: "ip link del w0",
        },
    ]
}

#[test]
fn bonds_vlans_and_vrfs() -> Result<()> {
    let node = Node::start()?;
    // without a bond of its own making
    node.vm.sh("modprobe bonding max_bonds=0")?;
    for case in cases() {
        let make = if case.make.starts_with("mode ") {
            format!("ip link add up0 type bond {}; {BOND}", case.make)
        } else {
            case.make.to_owned()
        };
        node.vm.sh(&format!("set -e; {make}"))?;
        let command = format!("handover plan --to bridge --uplink {}", case.uplink);
        let output = node.try_agent(&command)?;
        let said = format!("{}{}", output.stdout, output.stderr);
        println!("# {make}\n$ pointsman {command}\n{}", said.trim_end());
        assert_eq!(output.code(), Some(case.code), "{make}: {said}");
        for word in case.words {
            assert!(said.contains(word), "{make}: `{word}` is missing in: {said}");
        }
        // where these devices are, nothing keeps the addresses from going back to the uplink
        let back =
            node.try_agent(&format!("handover plan --to uplink --uplink {}", case.uplink))?;
        if case.words.iter().all(|word| !word.starts_with("UplinkEnslaved")) {
            assert_ne!(back.code(), Some(3), "{make}: {}", back.stdout);
        }
        node.vm.sh(case.remove)?;
    }
    Ok(())
}

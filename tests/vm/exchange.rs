//! A live exchange on a node that has more than addresses: what bridges and internal ports
//! hold is there again, who holds the module is named, and a crash takes nothing along.

use crate::state;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::node::{AGENT, CONFIG, Node, PROFILES};
use support::operator::Operator;
use support::payload;
use support::vm::{Bed, Command, Result};

/// The agent appends each step here before it takes it.
const PROGRESS: &str = "/var/lib/pointsman/progress";

/// What bridges and the internal port hold, by their own tools.
const HELD: &str = "for part in 'dump-tlv-map' 'dump-meters' 'dump-groups' \
     'dump-flows --no-stats --no-names'; do \
         ovs-ofctl -O OpenFlow15 $part br-int | grep -v xid=; \
     done; \
     ip -o address show dev mgmt0 | sed 's/^[0-9]*: //; s/ *\\\\.*//' | grep -v fe80; \
     ip -o link show dev mgmt0 | grep -o 'mtu [0-9]*\\|link/ether [^ ]*\\|[<,]UP[,>]' | sort; \
     ip route show dev mgmt0; ip -6 route show dev mgmt0 | grep -v fe80; \
     ovs-vsctl --timeout=5 get Interface eth1 ofport; \
     ovs-vsctl --timeout=5 get Open_vSwitch . other_config; \
     ovs-vsctl --timeout=5 get Open_vSwitch . external_ids | grep pointsman || :";

/// The addresses on the bridge, and all that can end with vswitchd.
fn furnished() -> Result<Node> {
    let node = Node::start()?;
    node.configure(&PROFILES.replace("addresses = \"uplink\"", "addresses = \"bridge\""))?;
    // the number 1 is somebody else's by then
    node.vm.sh("ovs-vsctl --timeout=20 add-br br-int -- add-port br-int gone -- \
         set Interface gone type=internal -- set Bridge br-int \
         other_config:hwaddr=$(cat /sys/class/net/eth1/address)")?;
    node.agent("handover apply --to bridge")?;
    node.vm.sh("set -e; ovs-vsctl --timeout=20 del-port gone -- \
         add-port br-int mgmt0 -- set Interface mgmt0 type=internal; \
         ip link set mgmt0 address 02:00:00:00:00:77 mtu 1400 up; \
         ip address add 192.168.77.1/24 dev mgmt0; ip -6 address add fd99::1/64 dev mgmt0; \
         ip route add 192.168.78.0/24 via 192.168.77.9 metric 7; \
         o='ovs-ofctl -O OpenFlow15'; \
         $o add-tlv-map br-int '{class=0xffff,type=1,len=4}->tun_metadata0'; \
         $o add-meter br-int 'meter=3 kbps bands=type=drop rate=100000'; \
         $o add-group br-int 'group_id=5,type=select,bucket=output:1'; \
         $o add-flow br-int 'table=3,priority=9,udp,actions=meter:3,group:5'; \
         $o add-flow br-int 'table=4,priority=9,tun_metadata0=7,in_port=2,actions=drop'; \
         sleep 2")?;
    Ok(node)
}

fn payload_build_id() -> Result<String> {
    Ok(payload::build_id(&Bed::locate()?.modules("nsx").join("openvswitch.ko")))
}

#[test]
fn what_ends_with_vswitchd_is_there_again() -> Result<()> {
    let node = furnished()?;
    let (former, held) = (node.loaded_build_id()?, node.vm.sh(HELD)?);
    for word in ["tun_metadata0", "meter=3", "group_id=5", "priority=9", "192.168.78.0", "fd99::1"]
    {
        assert!(held.contains(word), "{word}: {held}");
    }
    println!("{held}");
    node.agent("apply --profile nsx-ovs")?;
    assert_eq!(node.loaded_build_id()?, payload_build_id()?);
    assert_eq!(node.vm.sh(HELD)?, held);
    assert_eq!(state::reachable(&node)?, Ok(()));
    // the proof leaves nothing: no module of a port, no namespace, no datapath
    let left = node.vm.sh("lsmod | grep vport_ || :; ovs-dpctl dump-dps")?;
    assert_eq!(left, "system@ovs-system");
    assert!(node.agent("apply --profile nsx-ovs")?.contains("nothing to do"));
    println!("{}", node.vm.sh(&format!("cat {PROGRESS}"))?);

    // a crash between the stop and the return of the flows
    for step in ["put flows, groups", "start the host's"] {
        let command = "apply --profile upstream-ovs";
        let words = ["bed", "kill-when", "--file", PROGRESS, "--contains", step, "--after", "0"];
        let agent = ["--", AGENT, "--config", CONFIG].into_iter().chain(command.split(' '));
        node.vm.run(&Command::new(words.into_iter().chain(agent)))?.succeeded()?;
        let mark = "ovsdb-tool query /etc/openvswitch/conf.db \
            '[\"Open_vSwitch\",{\"op\":\"select\",\"table\":\"Open_vSwitch\",\"where\":[]}]' 2>/dev/null || :";
        assert!(node.vm.sh(mark)?.contains("pointsman-restoring"), "killed at {step}");
        assert_eq!(state::reachable(&node)?, Ok(()), "the addresses are on the uplink");
        node.agent("restore")?;
        assert_eq!(node.loaded_build_id()?, payload_build_id()?);
        assert_eq!(node.vm.sh(HELD)?, held, "killed at {step}");
    }
    node.agent("apply --profile upstream-ovs")?;
    assert_eq!(node.vm.sh(HELD)?, held);
    assert_eq!(node.loaded_build_id()?, former);
    Ok(())
}

#[test]
fn who_holds_the_module_is_named() -> Result<()> {
    let node = Node::start()?;
    let before = state::of(&node)?;
    node.vm.sh("ip netns exec peer ovs-dpctl add-dp held && ip netns exec peer ovs-dpctl add-if held holdport,type=internal")?;
    let output = node.try_agent("apply --profile nsx-ovs")?;
    let said = format!("{}{}", output.stdout, output.stderr);
    println!("{said}");
    assert_eq!(output.code(), Some(3), "{said}");
    for word in ["ModuleInUse: ", "the datapath held with holdport in the network namespace peer"] {
        assert!(said.contains(word), "`{word}` is missing in: {said}");
    }
    state::assert_same(&state::of(&node)?, &before, "a refusal");
    node.vm.sh("ip netns exec peer ovs-dpctl del-dp held")?;

    // it comes when the first look is over: depmod is the first tool that runs then
    let late = "#!/bin/sh\nip netns exec peer ovs-dpctl add-dp late\nexec /sbin/depmod \"$@\"\n";
    node.vm.put("/usr/local/sbin/depmod", late.as_bytes(), 0o755)?;
    let output = node.try_agent("apply --profile nsx-ovs")?;
    let said = format!("{}{}", output.stdout, output.stderr);
    assert_eq!(output.code(), Some(4), "{said}");
    for word in ["RolledBack: ModuleInUse: ", "the datapath late in the network namespace peer"] {
        assert!(output.stdout.contains(word), "`{word}` is missing in: {said}");
    }
    node.vm.sh("rm /usr/local/sbin/depmod; ip netns exec peer ovs-dpctl del-dp late")?;
    state::assert_same(&state::of(&node)?, &before, "the way back");
    Ok(())
}

/// Staged, refused, rebooted, proven: the annotation's way.
#[test]
fn what_was_staged_is_done_after_the_reboot() -> Result<()> {
    const LONG: Duration = Duration::from_secs(400);
    let node = Node::start()?;
    let third =
        "[profiles.nsx-too]\nmodules = \"payload\"\ncni = \"leave\"\naddresses = \"bridge\"\n";
    let profiles = PROFILES.replace("addresses = \"bridge\"", "addresses = \"leave\"");
    let profiles = profiles.replace("activate = \"live\"", "activate = \"reboot\"") + third;
    node.configure(&profiles)?;
    let former = node.loaded_build_id()?;
    let operator = Operator::start(&node);
    let agent = operator.start_agent(&node)?;
    let ask = |profile: &str| {
        operator.ask(profile);
        operator.wait(&node, LONG, |_, _| {})
    };
    let report = ask("nsx-ovs")?;
    assert_eq!((&*report["state"], &*report["reason"]), ("RebootRequired", "ModulesStaged"));
    let report = ask("nsx-too")?;
    assert_eq!((&*report["state"], &*report["reason"]), ("Refused", "SwitchStaged"), "{report:#?}");
    let report = ask("nsx-ovs")?;
    assert_eq!(report["state"], "RebootRequired", "{report:#?}");
    assert_eq!(node.loaded_build_id()?, former);
    drop(agent);

    node.vm.reboot()?;
    node.vm.node_network()?;
    node.vm.start_ovs()?;
    operator.tell_boot_id(&node);
    let agent = operator.start_agent(&node)?;
    let report = operator.wait(&node, LONG, |_, _| {})?;
    let said = (&*report["state"], &*report["reason"]);
    assert_eq!(said, ("RebootRequired", "KubeletNotRunning"), "{}", agent.log()?);
    assert_eq!(node.loaded_build_id()?, payload_build_id()?);
    let _kubelet = node.run_kubelet()?;
    let begin = Instant::now();
    while operator.annotations()["state"] != "Done" {
        assert!(begin.elapsed() < LONG, "{:#?}\n{}", operator.annotations(), agent.log()?);
        sleep(Duration::from_millis(200));
    }
    let proof = node.vm.sh("cat /var/lib/pointsman/proof.json")?;
    assert!(proof.contains(&payload_build_id()?), "{proof}");
    Ok(())
}

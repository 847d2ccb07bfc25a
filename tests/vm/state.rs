//! What a node is, told by its own tools: for comparison.

use support::node::Node;
use support::vm::Result;

/// One line per fact, in an order that does not depend on history.
///
/// The index files of depmod are told by what modprobe would load: they hold more.
const FACTS: &str = r#"
cd /
echo "owner:"
ip -o address show scope global | sed 's/^[0-9]*: //; s/ *\\.*//' | sort
ip -4 route show table main | sort
ip -6 route show table main | grep -v '^fe80\|^multicast' | sort
ip rule
ip -6 rule
for family in 4 6; do ip -$family route show table all | grep ' table [0-9]' || :; done
echo "filters:"
for name in all default eth1 br-int; do
    f=/proc/sys/net/ipv4/conf/$name/rp_filter
    [ ! -e $f ] || echo "$name $(cat $f)"
done
echo "loaded:"
od -An -v -tx1 -j16 /sys/module/openvswitch/notes/.note.gnu.build-id 2>/dev/null || echo none
modprobe --show-depends openvswitch | tail -n 1
echo "files:"
find lib/modules etc/depmod.d etc/cni opt/cni -type f ! -name 'modules.*' \
    -exec stat -c '%a %n' {} + -exec sha256sum {} + 2>/dev/null | sort
find lib/modules etc/depmod.d etc/cni opt/cni ! -type f 2>/dev/null | sort
echo "open vswitch:"
if ovs-vsctl --timeout=5 get Open_vSwitch . _uuid >/run/uuid 2>/dev/null; then
    for bridge in $(ovs-vsctl --timeout=5 list-br); do
        echo "bridge $bridge" $(ovs-vsctl --timeout=5 list-ports $bridge)
    done
    pidof ovs-vswitchd >/dev/null && echo vswitchd runs
else
    echo no database
fi
find / -xdev -name '*.pointsman.tmp' | sed 's/^/leftover /'
"#;

/// The facts of a node.
pub fn of(node: &Node) -> Result<String> {
    node.vm.sh(FACTS)
}

/// Fails with the differing lines, unless two states are the same.
#[track_caller]
pub fn assert_same(now: &str, then: &str, what: &str) {
    if now == then {
        return;
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (now, then) = (lines(now), lines(then));
    let only = |here: &[String], there: &[String], sign: char| -> String {
        let differing = here.iter().filter(|line| !there.contains(line));
        differing.map(|line| format!("{sign} {line}\n")).collect()
    };
    panic!(
        "{what}: the node is not what it was\n{}{}",
        only(&then, &now, '-'),
        only(&now, &then, '+')
    );
}

/// Whether the peer reaches all three addresses of the node within a few seconds; the
/// words of the first that failed otherwise.
pub fn reachable(node: &Node) -> Result<std::result::Result<(), String>> {
    let script = "for address in 10.0.2.15 10.0.2.16 fd77::15; do \
        ip netns exec peer ping -n -q -c 1 -i 0.2 -W 1 -w 4 $address >/dev/null || echo $address is dark; done";
    let dark = node.vm.sh(script)?;
    Ok(if dark.is_empty() { Ok(()) } else { Err(dark.replace('\n', ", ")) })
}

# OVN-Kubernetes: the NIC becomes a port first, with the bridge's MAC, in one transaction; then
# address by address, the bridge up, route by route, the default last. Back: the same the
# other way, and the port away.
move() { # FROM TO
  local a r4 r6
  from=$1 target=$2
  r4=$(routes -4 "$1") r6=$(routes -6 "$1")
  for a in $(addresses -4 "$1"); do
    # a primary takes its secondaries along: the next one is gone already
    ip address del "$a" dev "$1" 2>/dev/null || :
    ip address add "$a" dev "$2" label "$2"
  done
  for a in $(addresses -6 "$1"); do
    # a primary takes its secondaries along: the next one is gone already
    ip address del "$a" dev "$1" 2>/dev/null || :
    ip address add "$a" dev "$2"
  done
  ip link set "$2" up
  each_route -4 "$r4" over
  each_route -6 "$r6" over
}
over() {
  ip "$1" route del "${@:2}" dev "$from" 2>/dev/null || :
  ip "$1" route add "${@:2}" dev "$target"
}
to_bridge() {
  vsctl set bridge $bridge "other-config:hwaddr=\"$(mac $nic)\"" fail_mode=standalone -- \
    add-port $bridge $nic -- set port $nic other_config:transient=true
  move $nic $bridge
}
to_uplink() {
  move $bridge $nic
  vsctl del-port $bridge $nic
}

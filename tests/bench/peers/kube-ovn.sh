# Kube-OVN: address by address from the NIC to the bridge, the bridge's MAC, the bridge up, routes,
# the NIC becomes a port last. Back: the port away, then the same the other way.
replace() { ip "$1" route replace "${@:2}" dev "$target"; }
move() { # FROM TO
  local a
  for a in $(addresses -4 "$1") $(addresses -6 "$1"); do
    # a primary takes its secondaries along: the next one is gone already
    ip address del "$a" dev "$1" 2>/dev/null || :
    ip address replace "$a" dev "$2"
  done
}
to_bridge() {
  local r4 r6
  target=$bridge
  r4=$(routes -4 $nic) r6=$(routes -6 $nic)
  move $nic $bridge
  vsctl set bridge $bridge "other-config:hwaddr=\"$(mac $nic)\""
  ip link set $bridge up
  each_route -4 "$r4" replace
  each_route -6 "$r6" replace
  vsctl add-port $bridge $nic
}
to_uplink() {
  local r4 r6
  target=$nic
  r4=$(routes -4 $bridge) r6=$(routes -6 $bridge)
  vsctl del-port $bridge $nic
  move $bridge $nic
  each_route -4 "$r4" replace
  each_route -6 "$r6" replace
  ip link set $bridge down
}

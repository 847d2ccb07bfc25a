# What a person's script does: the NIC becomes a port, everything off it, everything onto the
# bridge. Back: the same the other way.
again() { ip "$1" route add "${@:2}" dev "$target"; }
move() { # FROM TO
  local v4 v6 r4 r6 a
  target=$2
  v4=$(addresses -4 "$1") v6=$(addresses -6 "$1") r4=$(routes -4 "$1") r6=$(routes -6 "$1")
  ip address flush dev "$1" scope global
  ip link set "$2" up
  for a in $v4 $v6; do ip address add "$a" dev "$2"; done
  each_route -4 "$r4" again
  each_route -6 "$r6" again
}
to_bridge() {
  vsctl add-port $bridge $nic
  move $nic $bridge
}
to_uplink() {
  vsctl del-port $bridge $nic
  move $bridge $nic
}

# Antrea: the NIC goes down, takes another name and comes up; an internal port takes its name
# and MAC; addresses, then routes; the NIC becomes a port last. Back: both ports away in
# one go, the name back, addresses, routes.
add() { ip "$1" route add "${@:2}" dev "$nic"; }
to_bridge() {
  local v4 v6 r4 r6 hwaddr
  v4=$(addresses -4 $nic) v6=$(addresses -6 $nic) r4=$(routes -4 $nic) r6=$(routes -6 $nic)
  hwaddr=$(mac $nic)
  ip link set $nic down
  ip link set $nic name $nic~
  ip link set $nic~ up
  vsctl add-port $bridge $nic -- set interface $nic type=internal "mac=\"$hwaddr\""
  ip link set $nic up
  for a in $v4 $v6; do ip address add "$a" dev $nic; done
  for a in $v4 $v6; do ip address del "$a" dev $nic~ 2>/dev/null || :; done
  each_route -4 "$r4" add
  each_route -6 "$r6" add
  vsctl add-port $bridge $nic~
}
to_uplink() {
  local v4 v6 r4 r6
  v4=$(addresses -4 $nic) v6=$(addresses -6 $nic) r4=$(routes -4 $nic) r6=$(routes -6 $nic)
  vsctl del-port $bridge $nic -- del-port $bridge $nic~
  ip link set $nic~ down
  ip link set $nic~ name $nic
  ip link set $nic up
  for a in $v4 $v6; do ip address add "$a" dev $nic; done
  each_route -4 "$r4" add
  each_route -6 "$r6" add
}

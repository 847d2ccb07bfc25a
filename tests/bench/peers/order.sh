# What the orders of other projects have in common, written from their descriptions: the
# addresses of one device, as bare prefixes, and the routes of `main` that leave by it.
# A multipath route names no device at its top, so that this finds none of its kind;
# rules, other tables and static neighbours are nowhere asked for.
set -e
nic=eth1
bridge=br-int
vsctl() { ovs-vsctl --timeout=30 "$@"; }
addresses() { ip -o "$1" address show dev "$2" scope global | awk '{ print $4 }'; }
# kernel: the device's own connected routes, which come with its addresses
routes() { ip "$1" route show table main dev "$2" | grep -v 'proto kernel\|^fe80\|^multicast' || :; }
mac() { cat "/sys/class/net/$1/address"; }
# Routes that a gateway needs come before it, the default last.
each_route() { # FAMILY ROUTES COMMAND...
  local family=$1 all=$2
  shift 2
  { printf '%s\n' "$all" | grep -v '^default\| via ' || :
    printf '%s\n' "$all" | grep -v '^default' | grep ' via ' || :
    printf '%s\n' "$all" | grep '^default' || :; } | while read -r route; do
    # what is left of a route is known to be refused at times (a source that is tentative)
    # shellcheck disable=SC2086 # a route is many words
    [ -z "$route" ] || "$@" "$family" $route || echo "refused: $route"
  done
}

//! What is read is what is there, all of it.

use super::{BRIDGE, NIC, OTHER, apply, enter, give_addresses, give_routes, ip, ip_json, read};
use pointsman_core::error::Reasoned as _;
use pointsman_core::model::{Address, Route};
use pointsman_core::plan::handover::Step;
use std::sync::atomic::{AtomicBool, Ordering};

/// What `ip` shows of every route, one line each; time left rounded away.
fn routes_by_ip() -> Vec<String> {
    let all = ["-4", "-6"].map(|family| ip(&format!("-d {family} route show table all")));
    let mut lines: Vec<String> = all
        .concat()
        .replace("\n\tnexthop", " nexthop")
        .lines()
        .filter(|line| !line.contains("table local"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let timed = words.iter().position(|word| *word == "expires");
            let keep = |(at, word): (usize, &&str)| {
                (Some(at) != timed.map(|t| t + 1)).then(|| (*word).to_owned())
            };
            words.iter().enumerate().filter_map(keep).collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}

fn ours(routes: Vec<Route>) -> Vec<Route> {
    routes.into_iter().filter(|route| route.protocol != 2).collect()
}

#[test]
fn routes_survive_being_deleted_and_added_again() {
    enter();
    give_addresses();
    give_routes();
    let before = routes_by_ip();
    let read_before = read();
    let static_routes = ours(read_before.routes.clone());
    assert_eq!(static_routes.len(), 22, "{static_routes:#?}");
    apply(Step::DeleteRoutes { routes: static_routes.clone() }).unwrap();
    assert_eq!(ours(read().routes), []);
    assert!(routes_by_ip().len() < before.len());
    let mut again = static_routes;
    again.sort_by_key(|route| {
        (route.gateway.is_some() || !route.hops.is_empty(), 255 - route.scope)
    });
    apply(Step::AddRoutes { routes: again.clone() }).unwrap();
    assert_eq!(routes_by_ip(), before);
    let by_ip = ip_json("-4 route show table all").as_array().unwrap().len()
        - ip_json("-4 route show table local").as_array().unwrap().len();
    let v4 = read_before.routes.iter().filter(|route| route.destination.is_ipv4()).count();
    assert_eq!(v4, by_ip);
    // what is exactly so already is done
    apply(Step::AddRoutes { routes: again }).unwrap();
    assert_eq!(routes_by_ip(), before);
}

#[test]
fn what_is_read_has_names_flags_and_numbers() {
    enter();
    give_addresses();
    give_routes();
    let network = read();
    let route = |destination: &str| {
        let found =
            network.routes.iter().find(|route| route.destination.to_string() == destination);
        found.unwrap_or_else(|| panic!("{destination} is not in {:#?}", network.routes))
    };
    assert_eq!(route("10.4.0.0").flags, 4, "onlink");
    let [first, second] = &route("10.5.0.0").hops[..] else { panic!("two legs") };
    assert_eq!(
        (first.link.as_str(), first.hops, second.link.as_str(), second.hops),
        (NIC, 2, OTHER, 0)
    );
    assert_eq!(route("10.7.0.0").table, 70_000);
    assert_eq!(route("fd00:4::").hops.len(), 2);
    assert!(route("fd00:3::").attributes.iter().any(|a| a.kind == 23), "expires");
    assert_eq!(route("10.3.0.0").attributes.len(), 1, "metrics");
    let address = |ip: &str| network.addresses.iter().find(|a| a.ip.to_string() == ip).unwrap();
    assert_eq!(address("10.77.0.3").label.as_deref(), Some("eth1:vip"));
    assert_eq!(address("10.66.0.2").peer.unwrap().to_string(), "10.66.0.1");
    assert_eq!((address("10.88.0.2").metric, address("10.88.0.2").flags), (Some(300), 0x200));
    let left = address("10.55.0.2").valid_lft;
    assert!((2990..=3000).contains(&left), "{left}");
    assert_eq!(address("fd00:99::2").prefix_len, 128);
    let link = network.links.iter().find(|link| link.name == NIC).unwrap();
    assert_eq!(link.mac.as_deref(), Some("02:00:00:00:77:02"));
    assert_eq!((link.kind.as_deref(), link.up, link.mtu), (Some("veth"), true, 1500));
}

#[test]
fn rules_and_neighbours_are_read() {
    enter();
    ip("rule add from 10.0.0.0/8 iif eth1 lookup 100 priority 90 protocol static");
    ip("-6 rule add lookup main suppress_prefixlength 0 priority 91");
    ip("neighbour add 10.77.0.66 lladdr 02:00:00:00:77:66 dev eth1 nud permanent");
    ip("neighbour add 10.77.0.67 lladdr 02:00:00:00:77:67 dev eth1 nud reachable");
    ip("neighbour add proxy 10.77.0.68 dev eth1");
    let network = read();
    let rule = network.rules.iter().find(|rule| rule.priority == 90).unwrap();
    assert_eq!((rule.iif.as_deref(), rule.table, rule.source_len), (Some(NIC), Some(100), 8));
    assert_eq!(rule.attributes.len(), 1, "its source: {rule:?}");
    let suppress = network.rules.iter().find(|rule| rule.priority == 91).unwrap();
    assert_eq!((suppress.family, suppress.attributes.len()), (6, 1), "{suppress:?}");
    for (family, priority) in [(4, 32766), (6, 32766)] {
        let main = |r: &&pointsman_core::model::Rule| (r.family, r.priority) == (family, priority);
        let main = network.rules.iter().find(main).unwrap();
        assert_eq!((main.table, &main.attributes[..]), (Some(254), &[][..]), "{main:?}");
    }
    let neighbour = |ip: &str| network.neighbours.iter().find(|n| n.ip.to_string() == ip).unwrap();
    assert!(neighbour("10.77.0.66").permanent && !neighbour("10.77.0.67").permanent);
    assert_eq!(neighbour("10.77.0.67").mac.as_deref(), Some("02:00:00:00:77:67"));
    assert!(neighbour("10.77.0.68").proxy);
}

/// A master that is a bridge stands in for a datapath: the same attribute.
#[test]
fn a_port_names_its_master() {
    enter();
    ip("link add br-int type bridge");
    ip("link set eth1 master br-int");
    let network = read();
    let link = network.links.iter().find(|link| link.name == NIC).unwrap();
    assert_eq!(link.master.as_deref(), Some(BRIDGE));
    assert_eq!(network.link(BRIDGE).unwrap().kind.as_deref(), Some("bridge"));
}

/// Stops the other thread, also when this one fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The kernel marks a dump that a change ran into; it must be read again, never come out short.
#[test]
fn a_dump_that_changes_under_the_reader_is_never_short() {
    const STEADY: usize = 3000;
    enter();
    let batch: String = (0..STEADY)
        .map(|i| format!("address add 10.{}.{}.1/32 dev eth0\n", 100 + i / 250, i % 250))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), batch).unwrap();
    ip(&format!("-batch {}", file.path().display()));
    // of smaller scope, it is listed first and shifts all others: a dump that goes on where it
    // stopped would miss one, or tell one twice
    ip("address add 10.99.0.1/32 scope link dev eth0");
    let first = read().addresses[1].clone();
    assert_eq!((first.link.as_str(), first.ip.to_string().as_str()), (OTHER, "10.99.0.1"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // a thread inherits the namespace
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                apply(Step::DeleteAddress(first.clone())).unwrap();
                apply(Step::AddAddress(first.clone())).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let _end = Ends(&stop);
        let mut whole = 0;
        for _ in 0..100 {
            match pointsman::observe::network::read() {
                Ok(network) => {
                    let steady = |a: &&Address| a.link == OTHER && a.ip.is_ipv4() && a.scope == 0;
                    let steady = network.addresses.iter().filter(steady);
                    assert_eq!(steady.count(), STEADY);
                    whole += 1;
                }
                Err(error) => assert_eq!(error.reason(), "NetworkUnsteady", "{error:?}"),
            }
        }
        assert!(whole > 0, "never read");
    });
}

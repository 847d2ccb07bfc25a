//! Links, addresses, routes, rules and neighbours.
//!
//! A step may be repeated on a state where it is done already: it succeeds only when a
//! second look shows the state exactly as the step wants it.

use super::{Applied, Executor, shield};
use crate::netlink::route::Change;
use crate::netlink::{self, Connection, Links, NetlinkError, Request};
use crate::observe::network::rp_filter_path;
use crate::observe::sysctl;
use crate::probe;
use netlink_packet_route::AddressFamily;
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::{Address, Route, Rule};
use pointsman_core::plan::handover::{OWN_PROTOCOL, Step, canonical, exact, legs, place};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use thiserror::Error;

/// A link that gets its carrier needs far less.
const RUNNING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
/// The kernel's work queue needs far less.
const USABLE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_micros(500);

#[derive(Debug, Error)]
enum HandoverError {
    #[error("write {path}")]
    Sysctl {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{link} is up but not running after {} s: it has no carrier", RUNNING.as_secs())]
    NotRunning { link: String },
    #[error("{0} is there already, but differs from what was wanted")]
    Differs(String),
}

impl Reasoned for HandoverError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Sysctl { .. } => "SysctlUnwritable",
            Self::NotRunning { .. } => "LinkNotRunning",
            Self::Differs(_) => "AddressConflict",
        }
    }

    fn is_transient(&self) -> bool {
        matches!(self, Self::NotRunning { .. })
    }
}

fn boxed<E: Reasoned>(error: E) -> Box<dyn Reasoned> {
    Box::new(error)
}

impl Executor {
    #[expect(clippy::unused_self, reason = "one shape for every noun")]
    pub(super) fn apply_handover(&self, step: &Step, notes: &mut Vec<String>) -> Applied {
        match step {
            Step::SetRpFilter { link, value } => {
                return write(rp_filter_path(link), i64::from(*value));
            }
            Step::SetSysctl { link, key, value } => return write(sysctl::path(link, key), *value),
            Step::RaiseShield { uplink, mac, mtu } => {
                notes.extend(shield::raise(uplink, mac, *mtu)?);
                return Ok(());
            }
            Step::Announce { link, addresses, router } => {
                notes.extend(announce(link, addresses, *router));
                return Ok(());
            }
            Step::LowerShield => return shield::lower(),
            Step::DeleteShieldLinks => return shield::delete_links(),
            Step::AskGateways { link, beside, gateways } => {
                return probe::see_that_it_forwards(link, beside, gateways).map_err(boxed);
            }
            _ => {}
        }
        Host::open().map_err(boxed)?.carry_out(step)
    }
}

/// Why nobody was told, where it was so: nothing is lost by that for long.
fn announce(link: &str, addresses: &[IpAddr], router: bool) -> Option<String> {
    let error = probe::announce(link, addresses, router).err()?;
    Some(format!(
        "the addresses were not announced out of {link} ({}): a switch that has forgotten its port learns it from the next packet",
        chain(&error)
    ))
}

fn write(path: String, value: i64) -> Applied {
    // one write of a sysctl is taken whole or not at all
    let written = OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.to_string().as_bytes()));
    written.map_err(|source| boxed(HandoverError::Sysctl { path, source }))
}

/// The kernel, and the names of its links at this moment.
struct Host {
    connection: Connection,
    links: Links,
}

impl Host {
    fn open() -> Result<Self, NetlinkError> {
        let mut connection = Connection::open()?;
        let links = Links::dump(&mut connection)?;
        Ok(Self { connection, links })
    }

    /// What the kernel is asked for by netlink.
    fn carry_out(&mut self, step: &Step) -> Applied {
        match step {
            Step::SetRpFilter { .. }
            | Step::SetSysctl { .. }
            | Step::RaiseShield { .. }
            | Step::LowerShield
            | Step::DeleteShieldLinks
            | Step::AskGateways { .. }
            | Step::Announce { .. } => Ok(()),
            Step::SetUp { link } => return self.set_up(link),
            Step::AddAddress(address) => return self.add_address(address),
            Step::SetMtu { link, mtu } => self.ask(netlink::link::set_mtu(&self.links, link, *mtu)),
            Step::DeleteAddress(address) => {
                let gone = [nix::libc::EADDRNOTAVAIL, nix::libc::ENODEV];
                self.ask_unless(netlink::address::delete(&self.links, address), &gone)
            }
            Step::SettleAddress(address) => {
                self.ask(netlink::address::change(&self.links, address))
            }
            Step::SetNeighbour(neighbour) => {
                self.ask(netlink::neighbour::set(&self.links, neighbour))
            }
            Step::DeleteNeighbour(neighbour) => {
                let gone = [nix::libc::ENOENT];
                self.ask_unless(netlink::neighbour::delete(&self.links, neighbour), &gone)
            }
            Step::AddRoutes { routes } => self.add_routes(routes),
            Step::DeleteRoutes { routes } => self.delete_routes(routes),
            Step::PrependRoutes { routes } => self.prepend_routes(routes),
            Step::ReplaceRoutes { routes } => {
                // one that is in its place already is replaced by itself
                self.change(&routes.iter().collect::<Vec<_>>(), Change::Replace)
            }
            Step::SetNexthops { nexthops } => {
                let requests: Result<Vec<Request>, NetlinkError> =
                    nexthops.iter().map(|n| netlink::nexthop::set(&self.links, n)).collect();
                requests.and_then(|requests| self.connection.batch(&requests))
            }
            Step::AddRules { rules } => self.add_rules(rules),
            Step::DeleteRules { rules } => self.delete_rules(rules),
            Step::AddShadowRule { family, priority, table } => {
                // the kernel calls a rule the same only when all of it is
                let there = [nix::libc::EEXIST];
                let rule = netlink::rule::lookup(*family, *priority, *table, OWN_PROTOCOL);
                self.ask_unless(netlink::rule::add(&rule), &there)
            }
            Step::DeleteShadowRule { family, priority, table } => {
                let gone = [nix::libc::ENOENT];
                let rule = netlink::rule::lookup(*family, *priority, *table, OWN_PROTOCOL);
                self.ask_unless(netlink::rule::delete(&rule), &gone)
            }
        }
        .map_err(boxed)
    }

    fn ask(&mut self, request: Result<Request, NetlinkError>) -> Result<(), NetlinkError> {
        self.connection.execute(&request?)
    }

    /// Takes these answers for success: they say that the state is as wanted.
    fn ask_unless(
        &mut self,
        request: Result<Request, NetlinkError>,
        done: &[i32],
    ) -> Result<(), NetlinkError> {
        let result = self.ask(request);
        match &result {
            Err(error) if error.errno().is_some_and(|errno| done.contains(&errno)) => Ok(()),
            _ => result,
        }
    }

    fn set_up(&mut self, link: &str) -> Applied {
        self.ask(netlink::link::set_up(&self.links, link)).map_err(boxed)?;
        let start = Instant::now();
        loop {
            if Links::dump(&mut self.connection).map_err(boxed)?.is_running(link) {
                return Ok(());
            }
            if start.elapsed() >= RUNNING {
                return Err(boxed(HandoverError::NotRunning { link: link.into() }));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn add_address(&mut self, address: &Address) -> Applied {
        let request = netlink::address::add(&self.links, address).map_err(boxed)?;
        match self.connection.execute(&request) {
            Err(error) if error.errno() == Some(nix::libc::EEXIST) => {}
            Ok(()) if address.ip.is_ipv6() => return self.wait_until_usable(address),
            other => return other.map_err(boxed),
        }
        let family = family(address.ip.is_ipv4());
        let found =
            netlink::address::dump(&mut self.connection, &self.links, family).map_err(boxed)?;
        if found.iter().any(|found| is_as_wanted(found, address)) {
            return Ok(());
        }
        Err(boxed(HandoverError::Differs(address.to_string())))
    }

    /// What is not usable in time is no failure: the other link has the address too.
    fn wait_until_usable(&mut self, address: &Address) -> Applied {
        let start = Instant::now();
        while start.elapsed() < USABLE
            && netlink::address::is_tentative(&mut self.connection, &self.links, address)
                .map_err(boxed)?
        {
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn add_routes(&mut self, routes: &[Route]) -> Result<(), NetlinkError> {
        let routes: Vec<Cow<'_, Route>> = legs(routes).collect();
        let routes: Vec<&Route> = routes.iter().map(AsRef::as_ref).collect();
        self.put(&routes, Change::Append)
    }

    /// The last one first: each is put before those that are there.
    fn prepend_routes(&mut self, routes: &[Route]) -> Result<(), NetlinkError> {
        let routes: Vec<&Route> = routes.iter().rev().collect();
        self.put(&routes, Change::Prepend)
    }

    fn put(&mut self, routes: &[&Route], change: Change) -> Result<(), NetlinkError> {
        match self.change(routes, change) {
            Err(error) if error.errno() == Some(nix::libc::EEXIST) => {}
            other => return other,
        }
        // some were there: what is exactly so is done, the rest must be taken
        let there = self.dump_routes(routes)?;
        let there: BTreeMap<_, _> = there.iter().map(|route| (place(route), route)).collect();
        let missing = |route: &&Route| {
            there.get(&place(route)).is_none_or(|found| exact(found) != exact(route))
        };
        let missing: Vec<&Route> = routes.iter().copied().filter(missing).collect();
        self.change(&missing, change)
    }

    fn change(&mut self, routes: &[&Route], change: Change) -> Result<(), NetlinkError> {
        let links = &self.links;
        self.connection.batch_of(
            routes,
            |route, body| change.write(links, route, body),
            |route| change.words(route),
        )
    }

    /// The kernel takes a request without metric for any metric, so only what is there is named.
    fn delete_routes(&mut self, routes: &[Route]) -> Result<(), NetlinkError> {
        let routes: Vec<Cow<'_, Route>> = legs(routes).collect();
        let routes: Vec<&Route> = routes.iter().map(AsRef::as_ref).collect();
        let there = self.dump_routes(&routes)?;
        let there: BTreeMap<_, _> = there.iter().map(|route| (place(route), route)).collect();
        let found: Vec<&Route> =
            routes.iter().filter_map(|route| there.get(&place(route)).copied()).collect();
        self.change(&found, Change::Delete)
    }

    /// What is there of the families of these routes, leg by leg.
    fn dump_routes(&mut self, like: &[&Route]) -> Result<Vec<Route>, NetlinkError> {
        let mut found = Vec::new();
        for v4 in [true, false] {
            if like.iter().any(|route| route.destination.is_ipv4() == v4) {
                let family = family(v4);
                let routes = netlink::route::dump(&mut self.connection, &self.links, family)?;
                found.extend(canonical(&routes));
            }
        }
        Ok(found)
    }

    /// Each once more than it is there: a rule may stand twice while others change places.
    fn add_rules(&mut self, rules: &[Rule]) -> Result<(), NetlinkError> {
        let requests: Result<Vec<Request>, NetlinkError> =
            rules.iter().map(netlink::rule::again).collect();
        self.connection.batch(&requests?)
    }

    fn delete_rules(&mut self, rules: &[Rule]) -> Result<(), NetlinkError> {
        for rule in rules {
            self.ask_unless(netlink::rule::delete(rule), &[nix::libc::ENOENT])?;
        }
        Ok(())
    }
}

fn family(v4: bool) -> AddressFamily {
    if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// All but the time left and what adding itself sets.
fn is_as_wanted(found: &Address, wanted: &Address) -> bool {
    const NODAD: u32 = 0x02;
    let rest = |address: &Address| Address {
        flags: address.flags & !NODAD,
        valid_lft: 0,
        preferred_lft: 0,
        ..address.clone()
    };
    rest(found) == rest(wanted)
}

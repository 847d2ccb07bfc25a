//! Links, addresses, routes, rules and neighbours.
//!
//! A step may be repeated on a state where it is done already: it succeeds only when a
//! second look shows the state exactly as the step wants it.

use super::{Applied, Executor, shield};
use crate::netlink::{self, Connection, Links, NetlinkError, Request, rule::Lookup};
use crate::observe::network::rp_filter_path;
use netlink_packet_route::AddressFamily;
use pointsman_core::error::Reasoned;
use pointsman_core::model::{Address, Route};
use pointsman_core::plan::handover::{OWN_PROTOCOL, Step, canonical, identity, key};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};
use thiserror::Error;

/// A link that gets its carrier needs far less.
const RUNNING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

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
    pub(super) fn apply_handover(&self, step: &Step) -> Applied {
        match step {
            Step::SetRpFilter { link, value } => return set_rp_filter(link, *value),
            Step::RaiseShield { uplink, mac, mtu } => return shield::raise(uplink, mac, *mtu),
            Step::LowerShield => return shield::lower(),
            Step::DeleteShieldLinks => return shield::delete_links(),
            _ => {}
        }
        let mut host = Host::open().map_err(boxed)?;
        match step {
            Step::SetRpFilter { .. }
            | Step::RaiseShield { .. }
            | Step::LowerShield
            | Step::DeleteShieldLinks => Ok(()),
            Step::SetUp { link } => return host.set_up(link),
            Step::AddAddress(address) => return host.add_address(address),
            Step::SetMtu { link, mtu } => host.ask(netlink::link::set_mtu(&host.links, link, *mtu)),
            Step::DeleteAddress(address) => {
                let gone = [nix::libc::EADDRNOTAVAIL, nix::libc::ENODEV];
                host.ask_unless(netlink::address::delete(&host.links, address), &gone)
            }
            Step::SettleAddress(address) => {
                host.ask(netlink::address::change(&host.links, address))
            }
            Step::SetNeighbour(neighbour) => {
                host.ask(netlink::neighbour::set(&host.links, neighbour))
            }
            Step::DeleteNeighbour(neighbour) => {
                let gone = [nix::libc::ENOENT];
                host.ask_unless(netlink::neighbour::delete(&host.links, neighbour), &gone)
            }
            Step::AddRoutes { routes } => host.add_routes(routes),
            Step::DeleteRoutes { routes } => host.delete_routes(routes),
            Step::AddShadowRule { family, priority, table } => {
                // the kernel calls a rule the same only when all of it is
                let there = [nix::libc::EEXIST];
                let lookup = lookup(*family, *priority, *table);
                host.ask_unless(Ok(netlink::rule::add(lookup)), &there)
            }
            Step::DeleteShadowRule { family, priority, table } => {
                let gone = [nix::libc::ENOENT];
                let lookup = lookup(*family, *priority, *table);
                host.ask_unless(Ok(netlink::rule::delete(lookup)), &gone)
            }
        }
        .map_err(boxed)
    }
}

fn lookup(family: u8, priority: u32, table: u32) -> Lookup {
    Lookup { family, priority, table, protocol: OWN_PROTOCOL }
}

fn set_rp_filter(link: &str, value: u8) -> Applied {
    let path = rp_filter_path(link);
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

    fn add_routes(&mut self, routes: &[Route]) -> Result<(), NetlinkError> {
        let routes: Vec<Route> = canonical(routes).collect();
        match self.append(&routes) {
            Err(error) if error.errno() == Some(nix::libc::EEXIST) => {}
            other => return other,
        }
        // some were there: what is exactly so is done, the rest must be taken
        let there = self.dump_routes(&routes)?;
        let missing =
            |route: &Route| there.get(&identity(route)).is_none_or(|r| key(r) != key(route));
        let missing: Vec<Route> = routes.into_iter().filter(missing).collect();
        self.append(&missing)
    }

    fn append(&mut self, routes: &[Route]) -> Result<(), NetlinkError> {
        let requests: Result<Vec<Request>, NetlinkError> =
            routes.iter().map(|route| netlink::route::append(&self.links, route)).collect();
        self.connection.batch(&requests?)
    }

    /// The kernel takes a request without metric for any metric, so only what is there is named.
    fn delete_routes(&mut self, routes: &[Route]) -> Result<(), NetlinkError> {
        let there = self.dump_routes(routes)?;
        let requests: Result<Vec<Request>, NetlinkError> = canonical(routes)
            .collect::<Vec<Route>>()
            .iter()
            .filter_map(|route| there.get(&identity(route)))
            .map(|found| netlink::route::delete(&self.links, found))
            .collect();
        self.connection.batch(&requests?)
    }

    /// What is there of the families of these routes, leg by leg.
    fn dump_routes(&mut self, like: &[Route]) -> Result<BTreeMap<Route, Route>, NetlinkError> {
        let mut found = BTreeMap::new();
        for v4 in [true, false] {
            if like.iter().any(|route| route.destination.is_ipv4() == v4) {
                let family = family(v4);
                let routes = netlink::route::dump(&mut self.connection, &self.links, family)?;
                found.extend(canonical(&routes).map(|route| (identity(&route), route)));
            }
        }
        Ok(found)
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

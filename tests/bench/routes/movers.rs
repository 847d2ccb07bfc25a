//! Who adds and moves routes, and how long it takes them.

use super::raw::{self, Change, GATEWAY, destination};
use crate::failed;
use pointsman::apply::Executor;
use pointsman::disk::HostRoot;
use pointsman::host_command::HostTools;
use pointsman_core::model::Route;
use pointsman_core::plan::Step;
use pointsman_core::plan::handover::Step as HandoverStep;
use rtnetlink::RouteMessageBuilder;
use std::fmt;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};
use support::vm::Result;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mover {
    /// The steps of a handover, as they are carried out.
    Ours,
    /// The same messages, encoded beforehand.
    Raw,
    /// iproute2, from a file written beforehand.
    IpBatch,
    /// The rtnetlink crate, one request after the other.
    Crate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Routes where there were none.
    Add,
    /// From one link to the other, each in its place: one message a route for everybody.
    Move,
}

impl Mover {
    pub(super) const ALL: [Self; 4] = [Self::Ours, Self::Raw, Self::IpBatch, Self::Crate];
}

impl Mover {
    /// The time of the work alone; before it the routes are made ready, after it cleaned away.
    pub(super) fn go(self, work: Work, many: u32) -> Result<Duration> {
        if work == Work::Move {
            raw::routes(Change::Append, "ra", many)?;
        }
        let took = match self {
            Self::Ours => ours(work, many)?,
            Self::Raw if work == Work::Move => raw::routes(Change::Replace, "rb", many)?,
            Self::Raw => raw::routes(Change::Append, "rb", many)?,
            Self::IpBatch => ip_batch(work, many)?,
            Self::Crate => by_crate(work, many)?,
        };
        // each was there, or this fails
        raw::routes(Change::Delete, "rb", many)?;
        Ok(took)
    }
}

fn ours(work: Work, many: u32) -> Result<Duration> {
    let routes = (0..many).map(|number| route(number, "rb")).collect();
    let step = match work {
        Work::Add => HandoverStep::AddRoutes { routes },
        Work::Move => HandoverStep::ReplaceRoutes { routes },
    };
    let executor = Executor {
        root: HostRoot::new("/"),
        tools: HostTools::Here,
        payload: "/nonexistent".into(),
        store: "/nonexistent".into(),
        ovsdb: "/nonexistent".into(),
    };
    let began = Instant::now();
    executor.apply(&Step::Handover(step)).map_err(failed)?;
    Ok(began.elapsed())
}

fn route(number: u32, link: &str) -> Route {
    Route {
        table: 254,
        destination: destination(number).into(),
        prefix_len: 24,
        source_len: 0,
        kind: 1,
        protocol: 4,
        scope: 0,
        tos: 0,
        metric: None,
        prefsrc: None,
        gateway: Some(GATEWAY.into()),
        link: Some(link.into()),
        flags: 0,
        hops: Vec::new(),
        attributes: Vec::new(),
    }
}

fn ip_batch(work: Work, many: u32) -> Result<Duration> {
    let verb = if work == Work::Move { "replace" } else { "append" };
    let mut lines = String::new();
    for number in 0..many {
        let to = destination(number);
        writeln!(lines, "route {verb} {to}/24 via {GATEWAY} dev rb proto static")
            .map_err(failed)?;
    }
    let file = tempfile::NamedTempFile::new().map_err(failed)?;
    std::fs::write(file.path(), lines).map_err(failed)?;
    let mut command = Command::new("ip");
    command.arg("-batch").arg(file.path());
    let began = Instant::now();
    let output = command.output().map_err(failed)?;
    let took = began.elapsed();
    if output.status.success() { Ok(took) } else { Err(failed(format!("ip -batch: {output:?}"))) }
}

fn by_crate(work: Work, many: u32) -> Result<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let index = nix::net::if_::if_nametoindex("rb").map_err(failed)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        let task = tokio::spawn(connection);
        let began = Instant::now();
        for number in 0..many {
            let message = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(destination(number), 24)
                .gateway(GATEWAY)
                .output_interface(index)
                .protocol(rtnetlink::packet_route::route::RouteProtocol::Static)
                .build();
            let request = handle.route().add(message);
            let request = if work == Work::Move { request.replace() } else { request };
            request.execute().await.map_err(failed)?;
        }
        let took = began.elapsed();
        task.abort();
        Ok(took)
    })
}

impl fmt::Display for Mover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours",
            Self::Raw => "raw batches",
            Self::IpBatch => "ip -batch",
            Self::Crate => "rtnetlink crate",
        })
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "added where there were none",
            Self::Move => "moved from one link to the other",
        })
    }
}

//! The options of the traffic subcommands.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use lexopt::prelude::*;

use crate::Failure;

/// All options, none of them checked for presence yet.
#[derive(Default)]
pub struct Options {
    listen: Vec<SocketAddr>,
    to: Option<SocketAddr>,
    from: Option<IpAddr>,
    pps: Option<u32>,
    label: Option<String>,
    out: Option<PathBuf>,
}

/// What `probe` and `tcp-stream` need to know.
pub struct Traffic {
    pub to: SocketAddr,
    /// The address to send from; the route's choice when absent.
    pub from: Option<IpAddr>,
    /// Packets or messages per second.
    pub pps: u32,
    pub label: String,
    /// Where the summary goes.
    pub out: PathBuf,
}

impl Options {
    pub fn parse(mut args: lexopt::Parser) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let Some(arg) = args.next()? {
            match arg {
                Long("listen") => options.listen.push(args.value()?.parse()?),
                Long("to") => options.to = Some(args.value()?.parse()?),
                Long("from") => options.from = Some(args.value()?.parse()?),
                Long("pps") => options.pps = Some(args.value()?.parse()?),
                Long("label") => options.label = Some(args.value()?.string()?),
                Long("out") => options.out = Some(args.value()?.into()),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(options)
    }

    pub fn listen(self) -> Result<Vec<SocketAddr>, Failure> {
        if self.listen.is_empty() { Err("--listen is missing".into()) } else { Ok(self.listen) }
    }

    pub fn traffic(self) -> Result<Traffic, Failure> {
        Ok(Traffic {
            to: self.to.ok_or("--to is missing")?,
            from: self.from,
            pps: self.pps.filter(|n| *n > 0).ok_or("--pps is missing or zero")?,
            label: self.label.ok_or("--label is missing")?,
            out: self.out.ok_or("--out is missing")?,
        })
    }
}

//! The ingress shield: a pair of devices and, as soon as they take packets, a rule on the uplink.

use super::Applied;
use crate::netlink::nftables::shield;
use crate::netlink::{self, Connection, Links, NetlinkError, veth};
use pointsman_core::error::{Reasoned, chain};
use pointsman_core::model::{Address, SHIELD_ENTRY, SHIELD_EXIT};
use pointsman_core::plan::handover::unshielded;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The entry's MAC, locally administered. Nobody ever sends to it.
const ENTRY_MAC: &str = "02:50:4f:49:4e:54";
/// RFC 7600's dummy address. Without any address the kernel's reverse path filter drops all
/// that comes in, even where it is loose (`no_addr` in `__fib_validate_source`).
const DUMMY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8));
/// `RT_SCOPE_HOST`: never chosen as the source of a packet that leaves.
const HOST_SCOPE: u8 = 254;
/// A pair gets its carrier in milliseconds; seconds on an emulated machine.
const READY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(1);

/// What decides whether a packet that comes in by a device is taken or passed on.
const LIKE_UPLINK: [&str; 8] = [
    "ipv4/conf/LINK/forwarding",
    "ipv4/conf/LINK/accept_local",
    "ipv4/conf/LINK/route_localnet",
    "ipv4/conf/LINK/src_valid_mark",
    "ipv4/conf/LINK/disable_policy",
    "ipv6/conf/LINK/disable_ipv6",
    "ipv6/conf/LINK/forwarding",
    "ipv6/conf/LINK/disable_policy",
];

#[derive(Debug, Error)]
enum ShieldError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("set {path} to {value}")]
    Sysctl {
        path: String,
        value: String,
        #[source]
        source: io::Error,
    },
    #[error("{SHIELD_ENTRY} and {SHIELD_EXIT} take no packets after {} s", READY.as_secs())]
    NotReady,
}

impl Reasoned for ShieldError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Netlink(error) => error.reason(),
            Self::Sysctl { .. } => "SysctlUnwritable",
            Self::NotReady => "LinkNotRunning",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Netlink(error) => error.is_transient(),
            Self::Sysctl { .. } => false,
            Self::NotReady => true,
        }
    }
}

/// Raises it anew, or leaves nothing of it and says what that costs.
pub(super) fn raise(
    uplink: &str,
    mac: &str,
    mtu: u32,
) -> Result<Option<String>, Box<dyn Reasoned>> {
    take_away().map_err(boxed)?;
    let Err(error) = try_to_raise(uplink, mac, mtu) else { return Ok(None) };
    // half of one would lose everything
    take_away().map_err(boxed)?;
    Ok(Some(unshielded(uplink, &chain(&error))))
}

/// The rule alone: what it has sent to the devices is still to come out of them.
pub(super) fn lower() -> Applied {
    shield::lower().map_err(boxed)
}

pub(super) fn delete_links() -> Applied {
    take_links_away().map_err(boxed)
}

fn boxed(error: impl Into<ShieldError>) -> Box<dyn Reasoned> {
    Box::new(error.into())
}

/// The rule first: one that sends to a device that is gone loses everything.
fn take_away() -> Result<(), NetlinkError> {
    // a batch that fails takes the kernel ten times as long as a look
    if shield::is_raised()? {
        shield::lower()?;
    }
    take_links_away()
}

fn take_links_away() -> Result<(), NetlinkError> {
    let mut connection = Connection::open()?;
    for name in [SHIELD_ENTRY, SHIELD_EXIT] {
        // the second is gone with the first, unless somebody has torn the pair apart
        let links = Links::dump(&mut connection)?;
        if links.get(name).is_none() {
            continue;
        }
        match connection.execute(&veth::delete(&links, name)?) {
            Err(error) if error.errno() == Some(nix::libc::ENODEV) => {}
            other => other?,
        }
    }
    Ok(())
}

fn try_to_raise(uplink: &str, mac: &str, mtu: u32) -> Result<(), ShieldError> {
    let mut connection = Connection::open()?;
    let entry = veth::End { name: SHIELD_ENTRY, mac: ENTRY_MAC, mtu };
    let exit = veth::End { name: SHIELD_EXIT, mac, mtu };
    connection.execute(&veth::add(entry, exit)?)?;
    let links = Links::dump(&mut connection)?;
    for name in [SHIELD_ENTRY, SHIELD_EXIT] {
        // no link-local address: nothing is to be sent by these
        set(&format!("ipv6/conf/{name}/addr_gen_mode"), "1")?;
    }
    // loose, as the way back is never by this device
    set(&format!("ipv4/conf/{SHIELD_EXIT}/rp_filter"), "2")?;
    for key in LIKE_UPLINK {
        copy(&key.replace("LINK", uplink), &key.replace("LINK", SHIELD_EXIT))?;
    }
    connection.execute(&netlink::address::add(&links, &dummy())?)?;
    for name in [SHIELD_ENTRY, SHIELD_EXIT] {
        connection.execute(&netlink::link::set_up(&links, name)?)?;
    }
    wait_until_ready(&mut connection)?;
    Ok(shield::raise(&links, uplink)?)
}

fn dummy() -> Address {
    Address {
        link: SHIELD_EXIT.into(),
        ip: DUMMY,
        prefix_len: 32,
        peer: None,
        broadcast: None,
        label: None,
        scope: HOST_SCOPE,
        flags: 0,
        valid_lft: u32::MAX,
        preferred_lft: u32::MAX,
        protocol: 0,
        metric: None,
        attributes: Vec::new(),
    }
}

fn wait_until_ready(connection: &mut Connection) -> Result<(), ShieldError> {
    let start = Instant::now();
    loop {
        let links = Links::dump(connection)?;
        if [SHIELD_ENTRY, SHIELD_EXIT].iter().all(|name| links.is_ready(name)) {
            return Ok(());
        }
        if start.elapsed() >= READY {
            return Err(ShieldError::NotReady);
        }
        std::thread::sleep(PAUSE);
    }
}

/// One link's value for another's. A kernel without the family or the key has neither.
fn copy(from: &str, to: &str) -> Result<(), ShieldError> {
    let read = |key: &str| fs::read_to_string(path(key)).map(|text| text.trim().to_owned()).ok();
    match (read(from), read(to)) {
        (Some(wanted), Some(found)) if wanted != found => set(to, &wanted),
        _ => Ok(()),
    }
}

fn set(key: &str, value: &str) -> Result<(), ShieldError> {
    // one write of a sysctl is taken whole or not at all
    let open = OpenOptions::new().write(true).open(path(key));
    match open.and_then(|mut file| file.write_all(value.as_bytes())) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ShieldError::Sysctl { path: path(key), value: value.into(), source })
        }
        _ => Ok(()),
    }
}

fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}

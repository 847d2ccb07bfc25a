//! Internal ports beside the bridge's own: with the datapath goes the device, and with that
//! what was configured on it.

use crate::model::{Address, Network, Route};
use crate::plan::handover::{self, canonical, exact};
use serde::{Deserialize, Serialize};
use std::fmt;

/// `RTPROT_KERNEL`: comes with its address.
const KERNEL: u8 = 2;
/// `RTPROT_RA`: comes with the next router advertisement.
const ROUTER: u8 = 9;
/// `RT_TABLE_LOCAL`.
const LOCAL: u32 = 255;

/// What an internal port is to get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InternalPort {
    /// Its name.
    pub link: String,
    /// None: it has the right one.
    pub mac: Option<String>,
    /// Bytes. None: it has the right one.
    pub mtu: Option<u32>,
    /// Whether it is to be set up.
    pub up: bool,
    /// In the order of adding.
    pub addresses: Vec<Address>,
    /// What a gateway is reached by comes before the gateway.
    pub routes: Vec<Route>,
}

/// What an internal port lacks of what it had. `anew`: it is going to be made by then, so
/// that its MAC and MTU cannot be known.
///
/// Nothing is taken from it. Link-local, temporary and router-made addresses, and routes that
/// the kernel or a router made, come back by themselves.
pub fn restore_port(
    before: &Network,
    now: &Network,
    name: &str,
    anew: bool,
) -> Option<InternalPort> {
    let (was, is) = (before.link(name)?, now.link(name)?);
    let mut port = InternalPort { link: name.to_owned(), ..InternalPort::default() };
    port.mac = was.mac.clone().filter(|mac| anew || is.mac.as_ref() != Some(mac));
    port.mtu = Some(was.mtu).filter(|mtu| anew || is.mtu != *mtu);
    port.up = was.up && !is.up;
    let has = |address: &Address| {
        let of_it = |found: &&Address| found.link == name && found.ip == address.ip;
        now.addresses.iter().any(|found| of_it(&found) && found.prefix_len == address.prefix_len)
    };
    let addresses = before.addresses.iter().filter(|a| a.link == name);
    let lacking = addresses.filter(|a| handover::is_carried(a) && !has(a));
    port.addresses = lacking.cloned().collect();
    let there: Vec<Route> = canonical(&now.routes).collect();
    let lacking = canonical(&before.routes).filter(|route| {
        let by_it =
            route.link.as_deref() == Some(name) || route.hops.iter().any(|hop| hop.link == name);
        let made = route.protocol == KERNEL || route.protocol == ROUTER || route.table == LOCAL;
        by_it && !made && !there.iter().any(|found| exact(found) == exact(route))
    });
    port.routes = lacking.collect();
    // stable: else in the order in which they were
    port.routes.sort_by_key(|route| route.gateway.is_some() || !route.hops.is_empty());
    let lacks = port.mac.is_some() || port.mtu.is_some() || port.up;
    (lacks || !port.addresses.is_empty() || !port.routes.is_empty()).then_some(port)
}

impl InternalPort {
    pub(super) fn simulate(&self, network: &mut Network) {
        if let Some(link) = network.links.iter_mut().find(|link| link.name == self.link) {
            link.mac = self.mac.clone().or(link.mac.take());
            link.mtu = self.mtu.unwrap_or(link.mtu);
            link.up |= self.up;
        }
        network.addresses.extend(self.addresses.iter().cloned());
        network.routes.extend(self.routes.iter().cloned());
    }
}

impl fmt::Display for InternalPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut what = Vec::new();
        what.extend(self.mac.as_ref().map(|mac| format!("MAC {mac}")));
        what.extend(self.mtu.map(|mtu| format!("MTU {mtu}")));
        what.extend(self.up.then(|| "up".to_owned()));
        what.extend(self.addresses.iter().map(|a| format!("{}/{}", a.ip, a.prefix_len)));
        what.extend(self.routes.iter().map(ToString::to_string));
        write!(f, "give the internal port {} back what it had: {}", self.link, what.join(", "))
    }
}

//! An internal port that was made anew gets what the former one had.

use super::{Applied, Executor};
use crate::netlink::{self, Connection, Links, NetlinkError};
use pointsman_core::error::Reasoned;
use pointsman_core::plan::handover::Step;
use pointsman_core::plan::ovs::InternalPort;

/// `IFA_F_NODAD`.
const NODAD: u32 = 0x02;

impl Executor {
    /// MAC and MTU before it is up; addresses before routes, whose gateways they reach.
    pub(super) fn restore_port(&self, port: &InternalPort) -> Applied {
        let link = || port.link.clone();
        if let Some(mac) = &port.mac {
            set_mac(&port.link, mac).map_err(|error| -> Box<dyn Reasoned> { Box::new(error) })?;
        }
        let mut steps: Vec<Step> = Vec::new();
        steps.extend(port.mtu.map(|mtu| Step::SetMtu { link: link(), mtu }));
        steps.extend(port.up.then(|| Step::SetUp { link: link() }));
        steps.extend(port.addresses.iter().cloned().map(Step::AddAddress));
        // which were added without duplicate address detection
        let settled = port.addresses.iter().filter(|a| a.ip.is_ipv6() && a.flags & NODAD == 0);
        steps.extend(settled.cloned().map(Step::SettleAddress));
        let routes = port.routes.clone();
        steps.extend((!routes.is_empty()).then_some(Step::AddRoutes { routes }));
        steps.iter().try_for_each(|step| self.apply_handover(step, &mut Vec::new()))
    }
}

fn set_mac(link: &str, mac: &str) -> Result<(), NetlinkError> {
    let mut connection = Connection::open()?;
    let links = Links::dump(&mut connection)?;
    connection.execute(&netlink::link::set_mac(&links, link, mac)?)
}

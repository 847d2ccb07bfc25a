//! The bridge and its port: steps of the `ovs` noun, at their place in the order.

use super::{Case, Owner, Step};
use crate::model::{Link, Ovs};
use crate::plan::{self, ovs};
use crate::probe;
use std::collections::BTreeMap;

/// `dev->mtu` of a new internal port.
const DEFAULT_MTU: u32 = 1500;

#[derive(Default)]
pub(super) struct Ports {
    /// Bridge, MAC, MTU, both links up.
    pub(super) ready: Vec<plan::Step>,
    pub(super) attach: Vec<plan::Step>,
    /// Asked after attaching and before anything is sent by the bridge.
    pub(super) proof: Vec<Step>,
    pub(super) detach: Vec<plan::Step>,
    /// At the very end.
    pub(super) last: Vec<plan::Step>,
    pub(super) makes_bridge: bool,
    pub(super) deletes_bridge: bool,
    pub(super) notes: Vec<String>,
}

impl Ports {
    pub(super) fn of(case: &Case<'_>) -> Self {
        match case.want.to {
            Owner::Bridge => Self::to_bridge(case),
            Owner::Uplink => Self::to_uplink(case),
        }
    }

    /// Whether the uplink becomes a port or ceases to be one.
    pub(super) fn change(&self) -> bool {
        !self.attach.is_empty() || !self.detach.is_empty()
    }

    fn to_bridge(case: &Case<'_>) -> Self {
        let (uplink, bridge) = (&case.want.uplink, &case.want.bridge);
        let network = &case.now.network;
        let row = case.now.ovs.bridge(bridge);
        let device = network.link(bridge);
        let mut ports = Self { makes_bridge: row.is_none(), ..Self::default() };
        let Some(nic) = network.link(uplink) else { return ports };
        let hwaddr = nic.mac.clone().unwrap_or_default().to_lowercase();
        let pinned = row.and_then(|row| row.hwaddr.as_ref()).map(|mac| mac.to_lowercase());
        let has = device.and_then(|link| link.mac.as_ref()).map(|mac| mac.to_lowercase());
        let name = bridge.clone();
        if row.is_none() {
            let external_ids = BTreeMap::from([
                ("bridge-id".to_owned(), bridge.clone()),
                ("created-by".to_owned(), "pointsman".to_owned()),
            ]);
            let datapath_type = String::new();
            ports.ready.push(plan::Step::Ovs(ovs::Step::AddBridge {
                bridge: name,
                datapath_type,
                hwaddr,
                external_ids,
            }));
        } else if pinned.as_ref() != Some(&hwaddr) || has.as_ref() != Some(&hwaddr) {
            ports.ready.push(plan::Step::Ovs(ovs::Step::PinMac { bridge: name, hwaddr }));
        }
        if device.map_or(DEFAULT_MTU, |link| link.mtu) != nic.mtu {
            ports.handover(Step::SetMtu { link: bridge.clone(), mtu: nic.mtu });
        }
        if device.is_none_or(|link| !link.up) {
            ports.handover(Step::SetUp { link: bridge.clone() });
        }
        ports.uplink_up(nic);
        let port = row.and_then(|row| row.port(uplink));
        if port.is_none_or(|port| port.ofport.is_none_or(|number| number < 0)) {
            let (bridge, port, ofport) = (bridge.clone(), uplink.clone(), None);
            ports.attach.push(plan::Step::Ovs(ovs::Step::AddPort { bridge, port, ofport }));
        }
        if row.is_some_and(|row| row.fail_mode.as_deref() == Some("secure")) {
            ports.ask(case);
        }
        ports
    }

    fn to_uplink(case: &Case<'_>) -> Self {
        let (uplink, bridge) = (&case.want.uplink, &case.want.bridge);
        let ovs = &case.now.ovs;
        let mut ports = Self::default();
        if let Some(nic) = case.now.network.link(uplink) {
            ports.uplink_up(nic);
        }
        let free = ovs::free(ovs, bridge, uplink, case.before.is_some());
        ports.detach.extend(free.into_iter().map(plan::Step::Ovs));
        ports.notes.extend(blind(ovs, uplink));
        if case.want.delete_bridge {
            ports.delete_bridge(ovs, bridge);
        }
        ports
    }

    /// A secure bridge that forwards nothing must be found out while the source has everything.
    fn ask(&mut self, case: &Case<'_>) {
        let (link, beside) = (case.want.bridge.clone(), case.want.uplink.clone());
        let gateways = probe::gateways(case.now, [&link, &beside]);
        // with nobody to ask it was refused, or accepted, beside
        if !gateways.is_empty() {
            self.proof = vec![Step::AskGateways { link, beside, gateways }];
        }
    }

    fn delete_bridge(&mut self, ovs: &Ovs, bridge: &str) {
        if !ovs.is_healthy() {
            self.notes.push(format!("{bridge} is not deleted, as Open vSwitch does not work"));
        } else if ovs.bridge(bridge).is_some() {
            let bridge = bridge.to_owned();
            self.last.push(plan::Step::Ovs(ovs::Step::DeleteBridge { bridge }));
            self.deletes_bridge = true;
        }
    }

    fn uplink_up(&mut self, nic: &Link) {
        if !nic.up {
            self.handover(Step::SetUp { link: nic.name.clone() });
        }
    }

    fn handover(&mut self, step: Step) {
        self.ready.push(plan::Step::Handover(step));
    }
}

/// What cannot be known while the database does not answer.
fn blind(ovs: &Ovs, uplink: &str) -> Option<String> {
    let known = ovs.database.is_some() || ovs.stopped.is_some();
    let none = !known && (ovs.vswitchd || !ovs.datapaths.is_empty());
    none.then(|| {
        format!(
            "the Open vSwitch database does not answer: it may still list {uplink} as a port and take it again when Open vSwitch starts"
        )
    })
}

//! What a transaction is for. Written to the journal, so that whoever finds it can go on.

use crate::checkpoint::Checkpoint;
use crate::config::{Activate, AddressesChoice, Profile, Settings};
use crate::model::Observed;
use crate::plan::handover::{self, Owner};
use crate::plan::{Plan, Refusal, boot, cni, modules, switch};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A target, and the planner that leads there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "goal")]
pub enum Goal {
    /// A whole profile.
    Profile {
        /// Of the profile.
        name: String,
        /// Its content when the transaction began: a later edit changes no running switch.
        profile: Profile,
    },
    /// The addresses alone.
    Handover {
        /// Who is to own them.
        to: Owner,
        /// With [`Owner::Uplink`]: delete the bridge.
        delete_bridge: bool,
    },
    /// The modules alone.
    Modules {
        /// Release of the kernel.
        kernel: String,
        /// Which set.
        target: modules::Target,
        /// When it becomes the loaded one.
        activate: Activate,
    },
    /// The CNI files alone.
    Cni {
        /// Which.
        #[serde(default)]
        to: cni::Toward,
        /// What a person has said yes to.
        #[serde(default)]
        consent: cni::Consent,
    },
    /// After a boot: of the network alone, whatever else the configuration asks for.
    Boot {
        /// The bridge, which has the uplink already; or the uplink, which is freed.
        to: Owner,
    },
}

fn cni_want(target: cni::Target, consent: cni::Consent, settings: &Settings) -> cni::Want {
    cni::Want { target, paths: settings.paths.clone(), consent }
}

impl Goal {
    /// The payload's CNI files alone, without any consent.
    pub fn cni() -> Self {
        Self::Cni { to: cni::Toward::Payload, consent: cni::Consent::default() }
    }

    /// The steps from an observation to this goal.
    ///
    /// `way_back` is the checkpoint of the transaction that is under way, if one is.
    pub fn plan(
        &self,
        settings: &Settings,
        observed: &Observed,
        way_back: Option<&Checkpoint>,
    ) -> Result<Plan, Refusal> {
        match self {
            Self::Profile { profile, .. } => {
                switch::plan_switch(settings, profile, observed, way_back)
            }
            Self::Handover { to, delete_bridge } => {
                let want = handover::Want {
                    uplink: settings.node.uplink.clone(),
                    bridge: settings.node.bridge.clone(),
                    to: *to,
                    delete_bridge: *delete_bridge,
                };
                // what an earlier switch left: nothing is forwarded, and nobody else ends it
                let (first, now) = switch::end_own_wait(observed);
                let node = &settings.node;
                let part = handover::coexistence::plan_beside(node, &want, &now, way_back)?;
                Ok(boot::guarded(first.then(part), settings, observed, Some(*to)))
            }
            Self::Modules { kernel, target, activate } => {
                let want =
                    modules::Want { kernel: kernel.clone(), target: *target, activate: *activate };
                modules::plan_modules(&want, observed, way_back, &settings.paths)
            }
            Self::Cni { to, consent } => {
                let want = cni_want(cni::Target::To(*to), *consent, settings);
                cni::plan_cni(&want, observed, way_back)
            }
            Self::Boot { to } => boot::plan(*to, settings, observed, way_back),
        }
    }

    /// Whether another one is for the same: a profile by its name, since an edit of it is no
    /// other one.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Profile { name: one, .. }, Self::Profile { name: other, .. }) => one == other,
            _ => self == other,
        }
    }

    /// Whether nothing is changed but files of another kernel than the running one.
    pub fn is_for_another_kernel(&self, running: &str) -> bool {
        matches!(self, Self::Modules { kernel, .. } if kernel != running)
    }

    /// Whether nothing but [the network and Open vSwitch](Self::may_touch_network) is looked
    /// at and changed, on the way there and back.
    pub fn is_of_network_alone(&self) -> bool {
        matches!(self, Self::Boot { .. })
    }

    /// Whether the bridge is to own the addresses when this goal is reached.
    pub fn wants_bridge(&self) -> bool {
        match self {
            Self::Profile { profile, .. } => profile.addresses == AddressesChoice::Bridge,
            Self::Handover { to, .. } | Self::Boot { to } => *to == Owner::Bridge,
            Self::Modules { .. } | Self::Cni { .. } => false,
        }
    }

    /// Whether a way to this goal, or back from it, can lead through links, addresses or
    /// Open vSwitch. Where it cannot, no harbour has to be reached first.
    pub fn may_touch_network(&self) -> bool {
        match self {
            Self::Profile { .. } | Self::Handover { .. } | Self::Boot { .. } => true,
            Self::Modules { .. } | Self::Cni { .. } => false,
        }
    }

    /// The steps back to where a transaction began.
    pub fn plan_back(
        &self,
        settings: &Settings,
        observed: &Observed,
        checkpoint: &Checkpoint,
    ) -> Result<Plan, Refusal> {
        match self {
            Self::Profile { profile, .. } => {
                let plan = switch::plan_back(settings, profile, observed, checkpoint)?;
                Ok(boot::as_before(plan, observed, &checkpoint.before))
            }
            Self::Handover { .. } => {
                let plan = switch::plan_addresses_back(settings, observed, checkpoint)?;
                Ok(boot::as_before(plan, observed, &checkpoint.before))
            }
            Self::Modules { kernel, activate, .. } => {
                let want = modules::Want {
                    kernel: kernel.clone(),
                    target: modules::Target::Before,
                    activate: *activate,
                };
                modules::plan_modules(&want, observed, Some(checkpoint), &settings.paths)
            }
            Self::Cni { to, consent } => {
                let want = cni_want(cni::Target::Before(*to), *consent, settings);
                cni::plan_cni(&want, observed, Some(checkpoint))
            }
            // before it the uplink was held: that is nothing to come back to
            Self::Boot { .. } => Self::plan_harbour(settings, observed, checkpoint),
        }
    }

    /// The steps to the safe harbour: addresses and routes on the uplink, the uplink in no datapath.
    pub fn plan_harbour(
        settings: &Settings,
        observed: &Observed,
        checkpoint: &Checkpoint,
    ) -> Result<Plan, Refusal> {
        let want = handover::Want {
            uplink: settings.node.uplink.clone(),
            bridge: settings.node.bridge.clone(),
            to: Owner::Uplink,
            delete_bridge: false,
        };
        handover::plan_salvage(&want, observed, checkpoint)
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile { name, .. } => write!(f, "the profile {name}"),
            Self::Handover { to: Owner::Bridge, .. } => f.write_str("addresses on the bridge"),
            Self::Handover { to: Owner::Uplink, .. } => f.write_str("addresses on the uplink"),
            Self::Modules { kernel, target: modules::Target::Payload, .. } => {
                write!(f, "the payload's modules for {kernel}")
            }
            Self::Modules { kernel, .. } => write!(f, "the in-tree modules for {kernel}"),
            Self::Cni { to: cni::Toward::Payload, .. } => f.write_str("the payload's CNI files"),
            Self::Cni { to: cni::Toward::Absent, .. } => {
                f.write_str("the CNI files from before Pointsman")
            }
            Self::Boot { to: Owner::Bridge } => f.write_str("addresses on the bridge after a boot"),
            Self::Boot { to: Owner::Uplink } => f.write_str("addresses on the uplink after a boot"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OvsRunner;
    use crate::model::{Address, Bridge, Datapath, Link, OvsDatabase, Port};
    use crate::plan::{ovs, simulate};

    fn settings(runner: &str) -> Settings {
        let text = format!(
            "[node]\nuplink = \"eth1\"\n[profiles.p]\nmodules = \"leave\"\ncni = \"leave\"\n\
             addresses = \"leave\"\novs = \"{runner}\"\n"
        );
        Settings::parse(&text).unwrap()
    }

    /// The addresses on the uplink, a bridge without it, both daemons well.
    fn before() -> Observed {
        let link = |index, name: &str| Link {
            index,
            name: name.into(),
            mac: Some("52:54:00:00:02:15".into()),
            mtu: 1500,
            up: true,
            ..Link::default()
        };
        let mut observed = Observed::default();
        let bridge = Link { kind: Some("openvswitch".into()), ..link(2, "br-int") };
        observed.network.links = vec![link(1, "eth1"), bridge];
        let address = serde_json::json!({"link": "eth1", "ip": "10.0.2.15", "prefix_len": 24,
            "scope": 0, "flags": 0x80, "valid_lft": u32::MAX, "preferred_lft": u32::MAX, "protocol": 0});
        let address: Address = serde_json::from_value(address).unwrap();
        observed.network.addresses = vec![address];
        let port = Port { name: "br-int".into(), kind: "internal".into(), ..Port::default() };
        let row = Bridge { name: "br-int".into(), ports: vec![port], ..Bridge::default() };
        observed.ovs.database = Some(OvsDatabase { bridges: vec![row], ..OvsDatabase::default() });
        (observed.ovs.vswitchd, observed.ovs.ovsdb_server) = (true, true);
        let vports = vec!["br-int".into()];
        observed.ovs.datapaths = vec![Datapath { name: "ovs-system".into(), vports }];
        observed
    }

    fn after(mut observed: Observed, plan: &Plan) -> Observed {
        plan.steps().for_each(|step| simulate(&mut observed, step));
        observed
    }

    #[test]
    fn open_vswitch_that_hung_and_was_ended_runs_again_at_the_end_of_the_way_back() {
        let goal = Goal::Handover { to: Owner::Bridge, delete_bridge: false };
        let checkpoint = Checkpoint { schema: 1, transaction: "t".into(), before: before() };
        // interrupted when the uplink was a port already, by a vswitchd that hangs
        let mut hung = before();
        let add = ovs::Step::AddPort { bridge: "br-int".into(), port: "eth1".into(), ofport: None };
        ovs::simulate(&mut hung, &add);
        hung.ovs.vswitchd_hangs = true;
        for (runner, runs) in [("host", true), ("none", false)] {
            let settings = settings(runner);
            assert_eq!(settings.profiles["p"].ovs == OvsRunner::Host, runs);
            let harbour = Goal::plan_harbour(&settings, &hung, &checkpoint).unwrap();
            let harboured = after(hung.clone(), &harbour);
            assert!(!harboured.ovs.vswitchd, "{harbour}");
            let back = goal.plan_back(&settings, &harboured, &checkpoint).unwrap();
            let there = after(harboured, &back);
            assert_eq!(there.ovs.is_healthy(), runs, "{runner}: {back}");
            let attached = &there.ovs.datapaths[0].vports;
            assert!(!attached.contains(&"eth1".into()), "{runner}: {back}");
            assert_eq!(there.network.addresses, before().network.addresses, "{runner}: {back}");
            assert!(goal.plan_back(&settings, &there, &checkpoint).unwrap().is_empty());
        }
    }
}

//! What a host looks like in a report.

use crate::node::timestamp;
use pointsman_core::config::Settings;
use pointsman_core::kernels::Kernels;
use pointsman_core::model::Observed;
use pointsman_core::plan::cni::{self, Places};
use pointsman_core::plan::modules::which_set;
use pointsman_core::plan::switch;
use pointsman_core::report::{OvsModule, Report, State};
use std::time::SystemTime;

/// A report that says nothing yet.
pub(crate) fn empty() -> Report {
    Report {
        observed: String::new(),
        current_profile: None,
        previous_profile: None,
        state: State::Pending,
        phase: None,
        reason: String::new(),
        message: String::new(),
        boot_id: String::new(),
        transition_time: timestamp(SystemTime::now()),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        ovs_module: None,
        address_owner: None,
        cni_version: None,
        uplink_mtu: None,
        kernels: String::new(),
        warning: None,
    }
}

/// The facts of an observation.
pub(crate) fn of(settings: &Settings, observed: &Observed) -> Report {
    let uplink = observed.network.links.iter().find(|link| link.name == settings.node.uplink);
    Report {
        boot_id: observed.host.boot_id.clone(),
        ovs_module: Some(OvsModule {
            origin: which_set(observed, &settings.paths, &observed.host.kernel),
            loaded: observed
                .modules
                .loaded("openvswitch")
                .and_then(|module| module.identity.build_id.clone()),
        }),
        address_owner: switch::owner(settings, observed),
        cni_version: cni::installed_version(observed, &Places::of(&settings.paths))
            .map(ToString::to_string),
        uplink_mtu: uplink.map(|link| link.mtu),
        kernels: Kernels::of(observed, &settings.paths).annotation(),
        ..empty()
    }
}

//! The Node annotations that operators and agents speak through: every key, once.

use std::collections::BTreeMap;

/// What every key starts with.
pub const PREFIX: &str = "pointsman.io/";

/// Written by the operator: the wanted profile, `name` or `name@sha256:<12+ hex>`.
pub const DESIRED_PROFILE: &str = "pointsman.io/desired-profile";
/// Written by the operator: any new value asks for another try of the same profile.
pub const RETRY: &str = "pointsman.io/retry";

/// Written by the agent: the request that the report answers, verbatim.
pub const OBSERVED: &str = "pointsman.io/observed";
/// Written by the agent: the profile verified on this boot, empty while none is.
pub const CURRENT_PROFILE: &str = "pointsman.io/current-profile";
/// Written by the agent: the profile before the current one.
pub const PREVIOUS_PROFILE: &str = "pointsman.io/previous-profile";
/// Written by the agent: one of [`crate::report::State`].
pub const STATE: &str = "pointsman.io/state";
/// Written by the agent: one of [`crate::phase::Phase`] while Working, else empty.
pub const PHASE: &str = "pointsman.io/phase";
/// Written by the agent: a stable `CamelCase` word for the state's cause.
pub const REASON: &str = "pointsman.io/reason";
/// Written by the agent: one plain sentence for a person.
pub const MESSAGE: &str = "pointsman.io/message";
/// Written by the agent: the boot that the report speaks of.
pub const BOOT_ID: &str = "pointsman.io/boot-id";
/// Written by the agent: when state, phase, reason or answered request last changed, RFC 3339.
pub const TRANSITION_TIME: &str = "pointsman.io/transition-time";
/// Written by the agent: its own version.
pub const AGENT_VERSION: &str = "pointsman.io/agent-version";
/// Written by the agent: origin of the module set, `@`, build id of the loaded module.
pub const OVS_MODULE: &str = "pointsman.io/ovs-module";
/// Written by the agent: who holds the uplink's addresses.
pub const ADDRESS_OWNER: &str = "pointsman.io/address-owner";
/// Written by the agent: the installed `nsxBuildVersion`.
pub const CNI_VERSION: &str = "pointsman.io/cni-version";
/// Written by the agent: MTU of the uplink, bytes.
pub const UPLINK_MTU: &str = "pointsman.io/uplink-mtu";
/// Written by the agent: one line per installed kernel, see [`crate::kernels`].
pub const KERNELS: &str = "pointsman.io/kernels";

/// Every key that the agent writes, and no other: the whole of one report.
pub const AGENT_KEYS: [&str; 15] = [
    OBSERVED,
    CURRENT_PROFILE,
    PREVIOUS_PROFILE,
    STATE,
    PHASE,
    REASON,
    MESSAGE,
    BOOT_ID,
    TRANSITION_TIME,
    AGENT_VERSION,
    OVS_MODULE,
    ADDRESS_OWNER,
    CNI_VERSION,
    UPLINK_MTU,
    KERNELS,
];

/// A Node's annotations, or those of them that matter here.
pub type Annotations = BTreeMap<String, String>;

use serde::{Deserialize, Serialize};

/// The machine and its system, as far as a plan depends on them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `uname -r` of the running kernel.
    pub kernel: String,
    /// `ID` of os-release, lower case; empty where there is none.
    pub os_id: String,
    /// `ID_LIKE` of os-release, split at blanks.
    pub os_like: Vec<String>,
    /// Whether systemd is the host's init (`/run/systemd/system` is a directory).
    pub systemd: bool,
    /// Whether a kubelet runs; none in an observation that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet: Option<bool>,
}

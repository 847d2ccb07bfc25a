use serde::{Deserialize, Serialize};

/// Our table of the `netdev` family of `nf_tables`. It stands for moments, and whatever has this name
/// is ours to delete.
pub const SHIELD_TABLE: &str = "pointsman-shield";
/// The device of a veth pair that the shield sends packets out by.
pub const SHIELD_ENTRY: &str = "pointsman-s0";
/// The other end of the pair, by which these packets come in.
pub const SHIELD_EXIT: &str = "pointsman-s1";

/// The ingress shield: a rule on the uplink that takes IP packets for this node off whatever
/// becomes of the uplink behind it, and hands them to the stack by another device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shield {
    /// [`SHIELD_TABLE`] is there: an agent at work has raised the shield, or one that was
    /// killed has left it.
    pub table: bool,
    /// [`SHIELD_ENTRY`] or [`SHIELD_EXIT`] is there.
    pub links: bool,
    /// Why the kernel can carry no shield; none where it can.
    pub refused: Option<String>,
}

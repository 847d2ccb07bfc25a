//! What a probe counted.

use serde::{Deserialize, Serialize};

/// One stream of numbered UDP packets, each of which should have come back once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The stream's name.
    pub label: String,
    /// Packets numbered, those that the kernel refused to send included.
    pub sent: u64,
    /// Different packets that came back.
    pub received: u64,
    /// `sent - received`.
    pub lost: u64,
    /// Packets that the kernel refused to send; they are lost too.
    pub refused: u64,
    /// Packets that came back again.
    pub duplicates: u64,
    /// The longest run of consecutive losses, times the sending period.
    pub longest_gap_ms: f64,
    /// The longest time between two arrivals, whatever the reason: a busy machine shows here too.
    pub longest_silence_ms: f64,
    /// The longest time between two sendings: what of the silence is the sender's own.
    pub longest_send_stall_ms: f64,
    /// The sender's addresses as the far end saw them.
    pub seen_as: Vec<String>,
}

/// One TCP connection with small messages, each of which should have come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    /// The stream's name.
    pub label: String,
    /// Messages written.
    pub sent: u64,
    /// Messages that came back.
    pub received: u64,
    /// The longest time between two arrivals.
    pub longest_stall_ms: f64,
    /// Whether the connection was reset, closed or never made.
    pub broken: bool,
    /// What broke it.
    pub error: Option<String>,
}

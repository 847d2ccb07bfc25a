//! JSON lines over a virtio-serial port.
//!
//! The guest opens with [`FromGuest::Hello`], once per boot; after that every
//! [`Request`] gets one [`FromGuest::Reply`] with its id, in any order. An empty
//! line or one that does not parse is skipped by both sides: a reset may cut a
//! line in two.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The name of the virtio-serial port.
pub const PORT: &str = "bed";

/// Bytes that are base64 inside JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(de::Error::custom)
    }
}

/// A program to run inside the VM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Program and arguments; found by `PATH`.
    pub argv: Vec<String>,
    /// Added to the guest's own environment.
    pub env: BTreeMap<String, String>,
    /// Name of a network namespace under `/run/netns`; the VM's own when absent.
    pub netns: Option<String>,
}

/// What the driver asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Op {
    /// Runs a program to its end, or kills its process group at the timeout.
    Run { program: Program, stdin: Bytes, timeout_ms: u64 },
    /// Starts a program and leaves it running, output appended to a file.
    Spawn { program: Program, log: PathBuf },
    /// Waits for a spawned program's end.
    Wait { pid: i32, timeout_ms: u64 },
    /// Sends a signal to a spawned program's process group.
    Signal { pid: i32, signal: i32 },
    /// Writes a file by way of a rename, parent folders included.
    Put { path: PathBuf, data: Bytes, mode: u32 },
    /// Reads a file.
    Get { path: PathBuf },
    /// Sets the wall clock, in milliseconds since 1970.
    SetClock { unix_ms: i64 },
    /// Ends all programs, syncs and reboots; not answered.
    Reboot,
}

/// A question with the number that its answer will carry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the driver.
    pub id: u64,
    /// What to do.
    pub op: Op,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It did not within the time given (and was killed, if it was a `Run`).
    TimedOut,
}

/// What came of an [`Op`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// `Signal`, `Put`, `SetClock`.
    Done,
    /// `Run`.
    Ran { ended: Ended, stdout: Bytes, stderr: Bytes },
    /// `Spawn`.
    Spawned { pid: i32 },
    /// `Wait`.
    Waited { ended: Ended },
    /// `Get`.
    Data { data: Bytes },
    /// It could not be done at all.
    Failed { error: String },
}

/// What the guest says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromGuest {
    /// The guest is up.
    Hello {
        /// `/proc/sys/kernel/random/boot_id`.
        boot_id: String,
    },
    /// The answer to one request.
    Reply { id: u64, answer: Answer },
}

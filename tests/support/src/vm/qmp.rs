//! QEMU's own control socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::error::{Result, VmError};

/// Runs one command, in a connection of its own, and returns what it returned.
pub(super) fn command(socket: &Path, name: &str, arguments: &Value) -> Result<Value> {
    exchange(socket, name, arguments).map_err(|e| VmError::new(format!("QMP {name}: {e}")))
}

fn exchange(
    socket: &Path,
    name: &str,
    arguments: &Value,
) -> std::result::Result<Value, Box<dyn std::error::Error>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(180)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?; // the greeting
    let mut answer = Value::Null;
    for request in
        [json!({"execute": "qmp_capabilities"}), json!({"execute": name, "arguments": arguments})]
    {
        writeln!(stream, "{request}")?;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err("QEMU closed the socket".into());
            }
            answer = serde_json::from_str(&line)?;
            if answer.get("event").is_none() {
                break;
            }
        }
        if let Some(error) = answer.get("error") {
            return Err(error.to_string().into());
        }
    }
    Ok(answer["return"].take())
}

/// A command of the human monitor, which says something only when it failed.
pub(super) fn monitor(socket: &Path, line: &str) -> Result<()> {
    let said = command(socket, "human-monitor-command", &json!({"command-line": line}))?;
    match said.as_str().map(str::trim) {
        None | Some("") => Ok(()),
        Some(error) => Err(VmError::new(format!("QEMU monitor: {line}: {error}"))),
    }
}

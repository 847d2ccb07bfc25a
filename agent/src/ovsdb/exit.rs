//! A daemon told to end by its control socket, as `ovs-appctl exit` does.

use super::client::connect_by;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Tells the daemon whose pid file lies in a run directory to end, and waits until it has
/// taken note. `unixctl` of Open vSwitch is JSON-RPC 1.0.
///
/// # Errors
/// Of a daemon that cannot be asked, or says nothing in time.
pub fn tell_to_exit(run: &Path, name: &str, limit: Duration) -> io::Result<()> {
    let socket = control_socket(run, name)?;
    let deadline = Instant::now() + limit;
    let mut stream = connect_by(&socket, deadline)?;
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))?;
    stream.write_all(br#"{"id":0,"method":"exit","params":[]}"#)?;
    // an answer, or the end of the one who would have given it
    let mut first = [0; 1];
    stream.read(&mut first).map(drop)
}

/// `NAME.PID.ctl` as a rule; `NAME.ctl` where a person chose it.
fn control_socket(run: &Path, name: &str) -> io::Result<PathBuf> {
    let pid = fs::read_to_string(run.join(format!("{name}.pid")))?;
    let usual = run.join(format!("{name}.{}.ctl", pid.trim()));
    Ok(if usual.exists() { usual } else { run.join(format!("{name}.ctl")) })
}

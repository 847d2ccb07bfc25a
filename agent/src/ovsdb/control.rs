//! A daemon's control socket, by which `ovs-appctl` speaks to it: whether it answers at all.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// What asking a daemon brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It lives, and has time for this.
    Given,
    /// It took the question, or did not even do that, and said nothing.
    None,
    /// It could not be asked: no control socket is known.
    Unknown,
}

/// Asks the daemon whose pid file lies in a run directory for its version: `unixctl` of Open
/// vSwitch is JSON-RPC 1.0 on `NAME.PID.ctl`, the number being that of the file.
pub fn ask_daemon(run: &Path, name: &str, limit: Duration) -> Answer {
    let Ok(pid) = fs::read_to_string(run.join(format!("{name}.pid"))) else {
        return Answer::Unknown;
    };
    let numbered = run.join(format!("{name}.{}.ctl", pid.trim()));
    // `--unixctl` may name another
    let socket = if numbered.exists() { numbered } else { run.join(format!("{name}.ctl")) };
    let deadline = Instant::now() + limit;
    let mut stream = match super::client::connect_by(&socket, deadline) {
        Ok(stream) => stream,
        // its queue is full of the questions of others
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Answer::None,
        Err(_) => return Answer::Unknown,
    };
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let question = br#"{"id":0,"method":"version","params":[]}"#;
    let asked = stream
        .set_read_timeout(Some(left))
        .and_then(|()| stream.set_write_timeout(Some(left)))
        .and_then(|()| stream.write_all(question));
    let mut first = [0; 1];
    match asked.and_then(|()| stream.read(&mut first)) {
        Ok(1..) => Answer::Given,
        // it hung up: it is ending, or does not know the question, and lives
        Ok(0) => Answer::Unknown,
        Err(error) => match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => Answer::None,
            _ => Answer::Unknown,
        },
    }
}

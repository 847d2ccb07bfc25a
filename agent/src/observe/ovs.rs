//! Open vSwitch as it is: what its database says, whether its daemons live and answer, what
//! is in the kernel.

use crate::apply::Executor;
use crate::netlink::openvswitch::{GenericError, datapaths};
use crate::ovsdb::{self, Answer, Client, OvsdbError, Snapshot, living};
use pointsman_core::error::chain;
use pointsman_core::model::{Ovs, OvsDatabase};
use std::path::Path;
use std::time::Duration;

/// Connecting, and then reading, may take this long each: a server that hangs is told
/// from a busy one within two seconds.
const PATIENCE: Duration = Duration::from_millis(900);
/// vswitchd answers between two passes over its configuration, which may be long.
const PASS: Duration = Duration::from_secs(2);
/// A file is read by the host's own tool.
const TOOL: Duration = Duration::from_secs(10);

/// Looks. `socket` is ovsdb-server's, as this process sees it.
///
/// A database that does not answer is a finding, not an error; an error is a kernel that
/// does not tell its datapaths, since a plan must not take that for none.
pub fn observe(socket: &Path) -> Result<Ovs, GenericError> {
    let read = Client::connect(socket, PATIENCE).and_then(|mut client| Snapshot::read(&mut client));
    let ovsdb_server = !living("ovsdb-server").is_empty();
    let silent = matches!(&read, Err(error) if error.is_silence());
    let (database, database_error) = match read {
        Ok(snapshot) => (Some(snapshot.to_model()), None),
        Err(error) => (None, Some(chain(&error))),
    };
    let vswitchd = !living("ovs-vswitchd").is_empty();
    let run = socket.parent().unwrap_or(Path::new("/"));
    let vswitchd_hangs = vswitchd && ovsdb::ask_daemon(run, "ovs-vswitchd", PASS) == Answer::None;
    Ok(Ovs {
        database,
        database_error,
        ovsdb_server,
        ovsdb_server_hangs: ovsdb_server && silent,
        vswitchd,
        vswitchd_hangs,
        datapaths: datapaths()?,
        ..Ovs::default()
    })
}

/// What a dead server's database holds; none where that cannot be found out.
pub(super) fn on_disk(executor: &Executor) -> Option<OvsDatabase> {
    let file = ovsdb::database_file(&executor.root)?;
    let read: Result<Snapshot, OvsdbError> = ovsdb::read_file(&executor.tools, &file, TOOL);
    match read {
        Ok(snapshot) => Some(snapshot.to_model()),
        Err(error) => {
            tracing::debug!(error = %chain(&error), "could not read the database's file");
            None
        }
    }
}

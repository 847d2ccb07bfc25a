//! Open vSwitch as it is: what its database says, whether its daemons live and answer, what
//! is in the kernel.

use crate::apply::Executor;
use crate::disk::HostRoot;
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
pub fn observe(socket: &Path, root: &HostRoot) -> Result<Ovs, GenericError> {
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
        file: ovsdb::served_file(run, root),
        ..Ovs::default()
    })
}

/// What a dead server's database holds, where it is: at `known`, where an earlier look found it
/// with its server, before any place where distributions have one.
pub(super) fn read_stopped(executor: &Executor, ovs: &mut Ovs, known: Option<&str>) {
    if ovs.database.is_some() || ovs.ovsdb_server {
        // what lives knows best, and what hangs may be asked no more
        ovs.file = ovs.file.take().or_else(|| known.map(str::to_owned));
        return;
    }
    let there = known.filter(|file| ovsdb::is_file(&executor.root, file)).map(str::to_owned);
    let found = there.or_else(|| ovsdb::database_file(&executor.root));
    // one that has gone stays known, so that nobody takes the host for one without a database
    ovs.file = found.clone().or_else(|| known.map(str::to_owned));
    ovs.stopped = found.and_then(|file| on_disk(executor, &file));
}

/// None where that cannot be found out.
fn on_disk(executor: &Executor, file: &str) -> Option<OvsDatabase> {
    let read: Result<Snapshot, OvsdbError> = ovsdb::read_file(&executor.tools, file, TOOL);
    match read {
        Ok(snapshot) => Some(snapshot.to_model()),
        Err(error) => {
            tracing::debug!(error = %chain(&error), "could not read the database's file");
            None
        }
    }
}

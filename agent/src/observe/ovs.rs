//! Open vSwitch as it is: what its database says, whether its daemons live, what is in the kernel.

use crate::netlink::openvswitch::{GenericError, datapaths};
use crate::ovsdb::{Client, Snapshot, living};
use pointsman_core::error::chain;
use pointsman_core::model::Ovs;
use std::path::Path;
use std::time::Duration;

/// Connecting, and then reading, may take this long each: a server that hangs is told
/// from a busy one within two seconds.
const PATIENCE: Duration = Duration::from_millis(900);

/// Looks. `socket` is ovsdb-server's, as this process sees it.
///
/// A database that does not answer is a finding, not an error; an error is a kernel that
/// does not tell its datapaths, since a plan must not take that for none.
pub fn observe(socket: &Path) -> Result<Ovs, GenericError> {
    let read = Client::connect(socket, PATIENCE).and_then(|mut client| Snapshot::read(&mut client));
    let (database, database_error) = match read {
        Ok(snapshot) => (Some(snapshot.to_model()), None),
        Err(error) => (None, Some(chain(&error))),
    };
    Ok(Ovs {
        database,
        database_error,
        ovsdb_server: !living("ovsdb-server").is_empty(),
        vswitchd: !living("ovs-vswitchd").is_empty(),
        datapaths: datapaths()?,
        stopped: None,
    })
}

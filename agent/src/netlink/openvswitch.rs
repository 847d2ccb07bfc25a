//! The kernel's Open vSwitch datapaths, over generic netlink, without vswitchd.
//!
//! Message layouts: `linux/genetlink.h`, `linux/openvswitch.h`. The families are looked up
//! by a dump of all that are registered: asking for one by its name makes the kernel load
//! the module that would bring it (`genl_family_find_byname` and `request_module` in
//! `net/netlink/genetlink.c`), and looking must not change what is looked at.

pub use super::generic::GenericError;
use super::generic::{Attributes, Connection, attribute, attribute_text};
use nix::errno::Errno;
use pointsman_core::model::Datapath;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const OVS_CMD_NEW: u8 = 1; // OVS_DP_CMD_NEW and OVS_VPORT_CMD_NEW
const OVS_CMD_DEL: u8 = 2; // OVS_DP_CMD_DEL and OVS_VPORT_CMD_DEL
const OVS_CMD_GET: u8 = 3; // OVS_DP_CMD_GET and OVS_VPORT_CMD_GET
const OVS_DP_ATTR_NAME: u16 = 1;
const OVS_DP_ATTR_UPCALL_PID: u16 = 2;
const OVS_VPORT_ATTR_TYPE: u16 = 2;
const OVS_VPORT_ATTR_NAME: u16 = 3;
const OVS_VPORT_ATTR_OPTIONS: u16 = 4;
const OVS_VPORT_ATTR_UPCALL_PID: u16 = 5;
const OVS_VPORT_TYPE_GENEVE: u32 = 5;
const OVS_TUNNEL_ATTR_DST_PORT: u16 = 1;
const NLA_F_NESTED: u16 = 0x8000;
/// IANA's port of Geneve; nobody else has it in a namespace of one's own.
const GENEVE_PORT: u16 = 6081;
/// Nobody: a packet without a flow is dropped.
const NOBODY: [u8; 4] = [0; 4];
/// `struct ovs_header` is the datapath's interface index.
const OVS_HEADER_LEN: usize = 4;

/// The datapaths of this network namespace; none where the module is not loaded.
pub fn datapaths() -> Result<Vec<Datapath>, GenericError> {
    let mut connection = Connection::open()?;
    let Some(families) = Families::find(&mut connection)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (index, name) in families.list(&mut connection)? {
        let replies = connection.dump(families.vport, OVS_CMD_GET, &index.to_ne_bytes())?;
        let mut vports = Vec::new();
        for reply in &replies {
            let attributes = Attributes(reply.get(OVS_HEADER_LEN..).unwrap_or_default());
            vports.extend(attributes.text(OVS_VPORT_ATTR_NAME).filter(|vport| *vport != name));
        }
        vports.sort();
        found.push(Datapath { name, vports });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Removes a datapath with all its vports; one that is not there is removed already.
pub fn delete_datapath(name: &str) -> Result<(), GenericError> {
    let mut connection = Connection::open()?;
    let Some(families) = Families::find(&mut connection)? else { return Ok(()) };
    let mut body = 0_u32.to_ne_bytes().to_vec();
    body.extend(attribute_text(OVS_DP_ATTR_NAME, name));
    let operation = format!("delete the datapath {name}");
    gone_is_fine(connection.request(&operation, families.datapath, OVS_CMD_DEL, &body))
}

/// Removes a vport from a datapath; one that is not there is removed already.
pub fn remove_vport(datapath: &str, port: &str) -> Result<(), GenericError> {
    let mut connection = Connection::open()?;
    let Some(families) = Families::find(&mut connection)? else { return Ok(()) };
    let listed = families.list(&mut connection)?;
    let Some((index, _)) = listed.into_iter().find(|(_, name)| name == datapath) else {
        return Ok(());
    };
    let mut body = index.to_ne_bytes().to_vec();
    body.extend(attribute_text(OVS_VPORT_ATTR_NAME, port));
    let operation = format!("remove the vport {port} from the datapath {datapath}");
    gone_is_fine(connection.request(&operation, families.vport, OVS_CMD_DEL, &body))
}

/// Makes a datapath with a Geneve port, sees both, deletes them and sees that they are gone.
///
/// For a network namespace of its own: it takes names and a port that others may have.
pub(crate) fn make_and_delete() -> Result<(), GenericError> {
    const DATAPATH: &str = "pointsman-proof";
    const PORT: &str = "proof-geneve";
    let mut connection = Connection::open()?;
    let absent = |operation: &str| GenericError::Refused {
        operation: operation.to_owned(),
        errno: Errno::ENOENT,
    };
    let families = Families::find(&mut connection)?;
    let families = families.ok_or_else(|| absent("know Open vSwitch's datapaths"))?;
    let mut body = NOBODY.to_vec();
    body.extend(attribute_text(OVS_DP_ATTR_NAME, DATAPATH));
    body.extend(attribute(OVS_DP_ATTR_UPCALL_PID, &NOBODY));
    connection.request("make a datapath", families.datapath, OVS_CMD_NEW, &body)?;
    let listed = families.list(&mut connection)?;
    let index = listed.into_iter().find(|(_, name)| name == DATAPATH).map(|(index, _)| index);
    let index = index.ok_or_else(|| absent("list the datapath that it had made"))?;
    let port = attribute(OVS_TUNNEL_ATTR_DST_PORT, &GENEVE_PORT.to_ne_bytes());
    let mut body = index.to_ne_bytes().to_vec();
    body.extend(attribute_text(OVS_VPORT_ATTR_NAME, PORT));
    body.extend(attribute(OVS_VPORT_ATTR_TYPE, &OVS_VPORT_TYPE_GENEVE.to_ne_bytes()));
    body.extend(attribute(OVS_VPORT_ATTR_UPCALL_PID, &NOBODY));
    body.extend(attribute(OVS_VPORT_ATTR_OPTIONS | NLA_F_NESTED, &port));
    connection.request("make a Geneve port", families.vport, OVS_CMD_NEW, &body)?;
    let made = datapaths()?;
    if !made.iter().any(|found| found.name == DATAPATH && found.vports == [PORT]) {
        return Err(absent("list the Geneve port that it had made"));
    }
    delete_datapath(DATAPATH)?;
    match datapaths()?.as_slice() {
        [] => Ok(()),
        [..] => Err(GenericError::Refused {
            operation: "delete the datapath".into(),
            errno: Errno::EEXIST,
        }),
    }
}

fn gone_is_fine(result: Result<(), GenericError>) -> Result<(), GenericError> {
    match result {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(()),
        result => result,
    }
}

/// Numbers that the kernel gave to the module's families.
struct Families {
    datapath: u16,
    vport: u16,
}

impl Families {
    fn find(connection: &mut Connection) -> Result<Option<Self>, GenericError> {
        let (mut datapath, mut vport) = (None, None);
        for reply in connection.dump(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &[])? {
            let attributes = Attributes(&reply);
            match attributes.text(CTRL_ATTR_FAMILY_NAME).as_deref() {
                Some("ovs_datapath") => datapath = attributes.u16(CTRL_ATTR_FAMILY_ID),
                Some("ovs_vport") => vport = attributes.u16(CTRL_ATTR_FAMILY_ID),
                _ => {}
            }
        }
        Ok(datapath.zip(vport).map(|(datapath, vport)| Self { datapath, vport }))
    }

    /// Interface index and name of each datapath.
    fn list(&self, connection: &mut Connection) -> Result<Vec<(u32, String)>, GenericError> {
        let replies = connection.dump(self.datapath, OVS_CMD_GET, &0_u32.to_ne_bytes())?;
        let read = |reply: &Vec<u8>| {
            let (header, rest) = reply.split_first_chunk::<OVS_HEADER_LEN>()?;
            Some((u32::from_ne_bytes(*header), Attributes(rest).text(OVS_DP_ATTR_NAME)?))
        };
        Ok(replies.iter().filter_map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_module_there_are_no_datapaths_and_it_stays_unloaded() {
        let loaded = || std::path::Path::new("/sys/module/openvswitch").exists();
        let before = loaded();
        // a namespace of its own holds no datapath, with the module or without it
        assert_eq!(datapaths().unwrap(), []);
        delete_datapath("ovs-system").unwrap();
        remove_vport("ovs-system", "eth1").unwrap();
        assert_eq!(loaded(), before);
        if !before {
            let error = make_and_delete().unwrap_err();
            assert_eq!(error.errno(), Some(Errno::ENOENT), "{error}");
        }
    }
}

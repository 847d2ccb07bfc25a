//! Open vSwitch: each step is verified by what the database, vswitchd and the kernel then
//! say, and does nothing where that is so already.

use super::{Applied, Executor};
use crate::netlink::openvswitch;
use crate::ovsdb::{self, Changed, Client, OvsdbError, Snapshot, living};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use pointsman_core::error::Reasoned;
use pointsman_core::plan::ovs::Step;
use std::time::{Duration, Instant};

/// One answer of ovsdb-server, which keeps everything in memory.
const REPLY: Duration = Duration::from_secs(5);
/// vswitchd's pass over its configuration: milliseconds, seconds on an emulated machine.
pub(super) const PASS: Duration = Duration::from_secs(20);
/// The same where the kernel can be asked instead: a vswitchd that hangs cannot say that it
/// let a device go, and must not hold up the way to the safe harbour.
const HINT: Duration = Duration::from_secs(5);

type Boxed = Box<dyn Reasoned>;

fn boxed<E: Reasoned>(error: E) -> Boxed {
    Box::new(error)
}

impl Executor {
    pub(super) fn apply_ovs(&self, step: &Step) -> Applied {
        match step {
            Step::AddBridge { bridge, datapath_type, hwaddr, external_ids } => {
                let mut client = self.ovsdb_client()?;
                let changed =
                    ovsdb::add_bridge(&mut client, bridge, datapath_type, hwaddr, external_ids)
                        .map_err(boxed)?;
                wait_for_port(&mut client, bridge, bridge, changed)?;
                wait_for_mac(&mut client, bridge, hwaddr)
            }
            Step::PinMac { bridge, hwaddr } => {
                let mut client = self.ovsdb_client()?;
                ovsdb::pin_mac(&mut client, bridge, hwaddr).map_err(boxed)?;
                wait_for_mac(&mut client, bridge, hwaddr)
            }
            Step::AddPort { bridge, port, ofport } => self.add_port(bridge, port, *ofport),
            Step::RemovePort { bridge, port } => self.remove_port(bridge, port),
            Step::ForgetPort { bridge, port } => self.forget_port(bridge, port),
            Step::ForgetPortOnDisk { bridge, port, file } => {
                self.forget_port_on_disk((bridge, port), file.as_deref())
            }
            Step::EndVswitchd => self.end_daemon("ovs-vswitchd"),
            Step::EndServer => self.end_daemon("ovsdb-server"),
            Step::DeleteBridge { bridge } => self.delete_bridge(bridge),
            Step::StopDaemons => self.stop_daemons(),
            Step::StartDaemons => self.start_daemons(),
            Step::DeleteDatapath { datapath } => {
                openvswitch::delete_datapath(datapath).map_err(boxed)?;
                wait_until(&format!("the end of the datapath {datapath}"), PASS, || {
                    Ok(!openvswitch::datapaths()
                        .map_err(boxed)?
                        .iter()
                        .any(|d| d.name == *datapath))
                })
            }
            Step::RemoveVport { datapath, port } => {
                openvswitch::remove_vport(datapath, port).map_err(boxed)?;
                wait_until_no_vport(port)
            }
            Step::SaveFlows { bridges } => self.save_flows(bridges),
            Step::HoldFlows => self.hold_flows(),
            Step::RestoreFlows { bridge } => self.restore_flows(bridge),
            Step::ReleaseFlows => self.release_flows(),
            Step::RestorePort(port) => self.restore_port(port),
        }
    }

    pub(super) fn ovsdb_client(&self) -> Result<Client, Boxed> {
        Client::connect(&self.ovsdb, REPLY).map_err(boxed)
    }

    fn add_port(&self, bridge: &str, port: &str, ofport: Option<i64>) -> Applied {
        let mut client = self.ovsdb_client()?;
        let changed = ovsdb::add_port(&mut client, bridge, port, ofport).map_err(boxed)?;
        // a row that fails stays: the way back finds it where everybody sees it, and plans it away
        wait_for_port(&mut client, bridge, port, changed)?;
        match ofport.filter(|_| changed != Changed::Nothing) {
            // vswitchd keeps the number that a port has
            Some(_) => ovsdb::end_request_of_number(&mut client, port).map(drop).map_err(boxed),
            None => Ok(()),
        }
    }

    fn remove_port(&self, bridge: &str, port: &str) -> Applied {
        let mut client = self.ovsdb_client()?;
        let changed = ovsdb::remove_port(&mut client, bridge, port).map_err(boxed)?;
        wait_until_free(&mut client, port, changed)
    }

    fn delete_bridge(&self, bridge: &str) -> Applied {
        let mut client = self.ovsdb_client()?;
        let changed = ovsdb::delete_bridge(&mut client, bridge).map_err(boxed)?;
        wait_until_free(&mut client, bridge, changed)?;
        if changed == Changed::Nothing {
            return Ok(()); // a device of that name is somebody else's
        }
        wait_until(&format!("the end of the device {bridge}"), PASS, || Ok(!device_exists(bridge)))
    }
}

/// Until vswitchd has given the port a number and the kernel, where it is the kernel's, has
/// it; or until vswitchd says why not.
fn wait_for_port(client: &mut Client, bridge: &str, port: &str, changed: Changed) -> Applied {
    let awaited = format!("the port {port}");
    let mut in_kernel = false;
    wait_for_vswitchd(client, &awaited, PASS, |now| {
        if !changed.is_carried_out(now) {
            return Ok(false);
        }
        let Some(interface) = now.interface(port) else { return Ok(false) };
        if let Some(error) = interface.error.as_ref().filter(|error| !error.is_empty()) {
            let error = error.clone();
            return Err(OvsdbError::PortFailed { port: port.to_owned(), error });
        }
        in_kernel = now.is_in_kernel(bridge);
        Ok(interface.ofport.is_some_and(|number| number > 0) && device_exists(port))
    })?;
    if !in_kernel {
        return Ok(());
    }
    wait_until(&format!("the kernel's vport {port}"), PASS, || is_vport(port))
}

fn wait_for_mac(client: &mut Client, device: &str, mac: &str) -> Applied {
    let awaited = format!("the MAC {mac} of {device}");
    wait_for_vswitchd(client, &awaited, PASS, |_| Ok(device_has_mac(device, mac)))
}

/// Until the device is in no datapath of the kernel. vswitchd, where it lives, is given
/// the time to say that it is done; what one that is dead or hangs does not read now, it
/// will not do when it comes back.
fn wait_until_free(client: &mut Client, port: &str, changed: Changed) -> Applied {
    let awaited = format!("the removal of {port}");
    let passed = wait_for_vswitchd(client, &awaited, HINT, |now| Ok(changed.is_carried_out(now)));
    match passed {
        // nobody is left who would free it
        Err(error) if error.reason() == "OvsVswitchdGone" => {
            if is_vport(port)? {
                Err(error)
            } else {
                Ok(())
            }
        }
        Err(error) if error.reason() != "OvsVswitchdSilent" => Err(error),
        Ok(()) | Err(_) => wait_until_no_vport(port),
    }
}

fn wait_until_no_vport(port: &str) -> Applied {
    let awaited = format!("the kernel's release of {port}");
    wait_until(&awaited, PASS.saturating_sub(HINT), || Ok(!is_vport(port)?))
}

fn is_vport(port: &str) -> Result<bool, Boxed> {
    let datapaths = openvswitch::datapaths().map_err(boxed)?;
    Ok(datapaths.iter().any(|datapath| datapath.vports.iter().any(|vport| vport == port)))
}

/// Reads the database again and again until it says what is wanted of vswitchd. What an
/// earlier vswitchd left in it does not count.
pub(super) fn wait_for_vswitchd(
    client: &mut Client,
    awaited: &str,
    limit: Duration,
    mut is_so: impl FnMut(&Snapshot) -> Result<bool, OvsdbError>,
) -> Applied {
    let owned = || awaited.to_owned();
    poll(limit, || {
        let alive = !living("ovs-vswitchd").is_empty();
        let so = Snapshot::read(client).and_then(|now| is_so(&now)).map_err(boxed)?;
        match (alive, so) {
            (true, so) => Ok(so),
            (false, _) => Err(boxed(OvsdbError::VswitchdGone { awaited: owned() })),
        }
    })?
    .ok_or_else(|| boxed(OvsdbError::NotCarriedOut { awaited: owned(), limit }))
}

pub(super) fn wait_until(
    awaited: &str,
    limit: Duration,
    is_so: impl FnMut() -> Result<bool, Boxed>,
) -> Applied {
    poll(limit, is_so)?.ok_or_else(|| {
        let awaited = awaited.to_owned();
        boxed(OvsdbError::NotCarriedOut { awaited, limit })
    })
}

/// None where it was not so in time. Looks at least once.
fn poll(
    limit: Duration,
    mut is_so: impl FnMut() -> Result<bool, Boxed>,
) -> Result<Option<()>, Boxed> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if is_so()? {
            return Ok(Some(()));
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn device_exists(name: &str) -> bool {
    if_nametoindex(name).is_ok()
}

fn device_has_mac(name: &str, mac: &str) -> bool {
    let Ok(mut addresses) = getifaddrs() else { return false };
    addresses.any(|entry| {
        let link = entry.address.as_ref().and_then(|address| address.as_link_addr()?.addr());
        entry.interface_name == name
            && link.is_some_and(|bytes| {
                bytes.map(|byte| format!("{byte:02x}")).join(":").eq_ignore_ascii_case(mac)
            })
    })
}

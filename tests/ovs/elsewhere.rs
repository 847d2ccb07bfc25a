//! The database lies where no distribution has it: who serves it is dead, and the way back
//! has to find the uplink's row all the same.

use crate::bed::{Bed, THERE};
use crate::*;
use pointsman_core::error::{Reasoned as _, chain};
use pointsman_core::phase::End;
use support::ovs::OvsFixture;

/// Open vSwitch is somebody else's: no way back starts the machine's own.
const FOREIGN: &str = "[profiles.p]\nmodules = \"leave\"\ncni = \"leave\"\naddresses = \"leave\"\n\
                       ovs = \"none\"\n";

#[derive(Clone, Copy, Debug)]
enum Fate {
    Killed,
    Hangs,
}

/// Both daemons meet their fate while the bridge owns the address, and the way back is taken;
/// then somebody starts them again.
fn comes_home_and_stays(ovs: OvsFixture, fate: Fate) {
    let mut bed = Bed::of(ovs, FOREIGN, &[]);
    bed.go(&THERE);
    bed.interrupt();
    match fate {
        Fate::Killed => bed.ovs.kill_vswitchd(),
        Fate::Hangs => bed.ovs.pause_vswitchd(),
    }
    match fate {
        Fate::Killed => bed.ovs.kill_server(),
        Fate::Hangs => bed.ovs.pause_server(),
    }
    let outcome = bed.recover();
    assert_eq!(outcome.end, End::RolledBack, "{fate:?}: {outcome:?}");
    assert_eq!(bed.owner(), "nic0");

    if matches!(fate, Fate::Hangs) {
        // they were ended; what is left of them is waited for
        bed.ovs.kill_vswitchd();
        bed.ovs.kill_server();
    }
    bed.ovs.start_server();
    let ports = || bed.ovs.vsctl(&["--no-wait", "list-ports", "br-int"]);
    assert_eq!(ports(), "", "{fate:?}: the row has gone from the file");
    bed.ovs.start_vswitchd();
    assert_eq!(bed.ovs.vsctl(&["list-ports", "br-int"]), "", "{fate:?}");
    assert_eq!(bed.owner(), "nic0");
}

#[test]
fn a_port_is_forgotten_in_a_database_that_lies_elsewhere() {
    comes_home_and_stays(OvsFixture::start(), Fate::Killed);
}

#[test]
fn a_port_is_forgotten_in_a_database_behind_a_link() {
    comes_home_and_stays(OvsFixture::start_behind_a_link(), Fate::Killed);
}

#[test]
fn a_port_is_forgotten_in_the_database_of_a_server_that_hangs() {
    comes_home_and_stays(OvsFixture::start_behind_a_link(), Fate::Hangs);
}

#[test]
fn the_living_server_tells_where_its_database_is() {
    for (ovs, name) in
        [(OvsFixture::start(), "conf.db"), (OvsFixture::start_behind_a_link(), "far/away.db")]
    {
        let real = std::fs::canonicalize(ovs.directory()).unwrap().join(name);
        assert_eq!(observe(&ovs.socket()).file.as_deref(), real.to_str());
        ovs.pause_server();
        assert_eq!(observe(&ovs.socket()).file.as_deref(), real.to_str(), "while it hangs");
    }
}

#[test]
fn a_database_that_is_nowhere_is_an_error_that_says_what_to_do() {
    let host = tempfile::tempdir().unwrap();
    let nowhere = Executor { root: HostRoot::new(host.path()), ..executor(Path::new("/no/sock")) };
    for file in [None, Some("/no/conf.db")] {
        let step = OvsStep::ForgetPortOnDisk {
            bridge: "br-int".into(),
            port: "nic0".into(),
            file: file.map(str::to_owned),
        };
        let error = nowhere.apply(&Step::Ovs(step)).unwrap_err();
        assert_eq!(error.reason(), "OvsDatabaseFileMissing", "{}", chain(&error));
        let text = chain(&error);
        for words in ["nic0", "br-int", "del-port", file.unwrap_or("/etc/openvswitch/conf.db")] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}

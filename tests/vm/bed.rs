//! The bed itself: what the other tests take for granted.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use support::vm::{Bed, Command, Ended, HOST, Image, Result, Traffic, Vm};

const LOADED_BUILD_ID: &str =
    "od -An -v -tx1 -j16 /sys/module/openvswitch/notes/.note.gnu.build-id | tr -d ' \\n'";

#[test]
fn a_snapshot_goes_on_in_seconds_with_its_clock_right() -> Result<()> {
    drop(Vm::from_snapshot(Image::Bed)?);
    let vm = Vm::from_snapshot(Image::Bed)?;
    println!("from the snapshot in {:.2?}", vm.started_in());
    assert!(vm.started_in() < Duration::from_secs(20), "{:?}", vm.started_in());

    let guest: f64 = vm.sh("date +%s.%N")?.parse().unwrap();
    let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((guest - here).abs() < 2.0, "the guest's clock is off by {} s", guest - here);

    assert_eq!(vm.sh("uname -r")?, Bed::locate()?.kernel());
    assert_eq!(vm.sh("ovs-vsctl --timeout=10 list-br")?, "");
    assert_eq!(vm.sh("cat /proc/1/comm")?, "bed");
    Ok(())
}

#[test]
fn traffic_past_an_idle_node_loses_nothing() -> Result<()> {
    let vm = Vm::from_snapshot(Image::Bed)?;
    let traffic = Traffic::start(&vm)?;
    thread::sleep(Duration::from_secs(5));
    let report = traffic.stop()?;
    println!("{report}");
    assert_eq!(report.lost(), 0, "\n{report}");
    assert!(!report.tcp.broken && report.tcp.sent == report.tcp.received, "\n{report}");
    for (label, probe) in &report.probes {
        // All of them really ran: at least a fifth of the rate, on the busiest machine.
        let least = if label == "in4" { 1000 } else { 100 };
        assert!(probe.sent > least && probe.duplicates == 0, "{label}\n{report}");
    }
    // The source that the pinned route asks for, and the first address otherwise.
    assert_eq!(report.probes["out4"].seen_as, ["10.0.2.16"]);
    assert_eq!(report.probes["out6"].seen_as, ["fd77::15"]);
    assert_eq!(report.probes["in4r"].seen_as, ["10.88.0.1"]);
    Ok(())
}

#[test]
fn traffic_notices_a_lost_uplink() -> Result<()> {
    let vm = Vm::from_snapshot(Image::Bed)?;
    let traffic = Traffic::start(&vm)?;
    thread::sleep(Duration::from_secs(1));
    // Down and up: the default route and the IPv6 address are gone for good.
    vm.sh("ip link set eth1 down && sleep 1 && ip link set eth1 up")?;
    thread::sleep(Duration::from_secs(2));
    let report = traffic.stop()?;
    println!("{report}");
    let probes = &report.probes;
    assert!(probes["in4"].lost > 100 && probes["in4"].received > 100, "\n{report}");
    assert!(probes["in4"].longest_silence_ms > 900.0, "\n{report}");
    assert!(probes["out4d"].refused > 0 && probes["out6"].longest_gap_ms > 900.0, "\n{report}");
    Ok(())
}

#[test]
fn this_machines_loopback_is_reached_through_the_uplink_only() -> Result<()> {
    let vm = Vm::from_snapshot(Image::Bed)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut line = [0; 4];
            connection.read_exact(&mut line).unwrap();
            connection.write_all(b"here\n").unwrap();
        }
    });
    let ask = format!("echo ask | busybox nc -w 5 {HOST} {port}");
    assert_eq!(vm.sh(&ask)?, "here");
    vm.sh("ip link set eth1 down")?;
    let output = vm.run(&Command::sh(&ask))?;
    assert_ne!(output.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, "");
    Ok(())
}

#[test]
fn the_second_module_set_is_another_one_and_has_six_files() -> Result<()> {
    let vm = Vm::from_snapshot(Image::Bed)?;
    let in_tree = vm.sh(LOADED_BUILD_ID)?;
    assert_eq!(in_tree.len(), 40, "{in_tree}");

    vm.sh("/usr/share/openvswitch/scripts/ovs-ctl stop && \
           { ovs-dpctl del-dp ovs-system || :; } && modprobe -r openvswitch")?;
    let files = put_modules(&vm, "nsx")?;
    assert_eq!(files.len(), 6, "{files:?}");
    // What they stand on, then the datapath, then its ports.
    vm.sh("modprobe -a nsh nf_conntrack nf_nat nf_conncount libcrc32c geneve vxlan ip_gre")?;
    vm.sh("cd /run/nsx && insmod ./openvswitch.ko && for f in vport-*.ko; do insmod ./$f; done")?;
    let nsx = vm.sh(LOADED_BUILD_ID)?;
    assert_eq!(nsx.len(), 40, "{nsx}");
    assert_ne!(in_tree, nsx);
    assert_eq!(vm.sh("cat /sys/module/openvswitch/version")?, "2.17.9.nsx-4.1.2");
    let notes = "cat /sys/module/openvswitch/notes/.note.gnu.build-id \
                 /sys/module/vport_*/notes/.note.gnu.build-id | od -An -v -w36 -tx1 | sort -u | wc -l";
    assert_eq!(vm.sh(notes)?, "6", "each file has its own build id");
    // They hold the datapath in memory as the real ones do.
    assert_ne!(vm.run(&Command::sh("rmmod openvswitch"))?.code(), Some(0));

    let begin = Instant::now();
    vm.start_ovs()?;
    println!("OVS started again on the other set in {:.1?}", begin.elapsed());
    vm.sh("ovs-vsctl --timeout=20 add-br br-int && ovs-dpctl show | grep -q br-int")?;
    Ok(())
}

#[test]
fn the_kernel_takes_a_module_that_names_another_release() -> Result<()> {
    let vm = Vm::boot()?;
    println!("booted in {:.1?}", vm.started_in());
    put_modules(&vm, "nsx-other")?;
    let other = Bed::locate()?.other_kernel()?;
    assert_ne!(other, vm.sh("uname -r")?);
    let said = vm.sh("modinfo -F vermagic /run/nsx-other/openvswitch.ko")?;
    assert!(said.starts_with(&format!("{other} ")), "{said}");
    // With CONFIG_MODVERSIONS the symbols' checksums count, the name does not:
    // whoever installs a set has to look at the name.
    vm.sh("modprobe -a nsh nf_conntrack nf_nat nf_conncount libcrc32c")?;
    vm.sh("insmod /run/nsx-other/openvswitch.ko")?;
    Ok(())
}

#[test]
fn files_stay_over_a_reboot_and_synced_ones_over_a_power_cut() -> Result<()> {
    let vm = Vm::from_snapshot(Image::Bed)?;
    let first = vm.boot_id();
    vm.put("/var/lib/mark", b"kept", 0o600)?;
    println!("rebooted in {:.1?}", vm.reboot()?);
    assert_ne!(vm.boot_id(), first);
    assert_eq!(vm.get("/var/lib/mark")?, b"kept");
    assert_eq!(vm.sh("stat -c %a /var/lib/mark")?, "600");

    vm.node_network()?;
    vm.start_ovs()?;
    vm.sh("echo synced >/var/lib/mark && sync && echo not >/var/lib/mark-too")?;
    println!("up again after a power cut in {:.1?}", vm.reset()?);
    assert_eq!(vm.get("/var/lib/mark")?, b"synced\n");
    let absent = vm.get("/var/lib/mark-too").unwrap_err();
    assert!(absent.to_string().contains("No such file"), "{absent}");
    Ok(())
}

#[test]
fn a_programs_end_is_told_whatever_it_is() -> Result<()> {
    let vm = Vm::from_snapshot(Image::Bed)?;
    let short = Command::new(["sleep", "30"]).within(Duration::from_millis(300));
    let (slow, cat) = thread::scope(|scope| {
        let slow = scope.spawn(|| vm.run(&short));
        // Beside it, not after it.
        let cat = vm.run(&Command::new(["cat"]).stdin("through").env("A", "b"));
        (slow.join().unwrap(), cat)
    });
    assert_eq!(slow?.ended, Ended::TimedOut);
    let cat = cat?;
    assert_eq!((cat.code(), cat.stdout.as_str()), (Some(0), "through"));

    let sleep = vm.spawn(&Command::sh("echo started; exec sleep 100"))?;
    assert_eq!(sleep.wait(Duration::from_millis(300))?, Ended::TimedOut);
    sleep.signal(15)?;
    assert_eq!(sleep.wait(Duration::from_secs(20))?, Ended::Signal(15));
    assert_eq!(sleep.log()?, "started\n");

    // A daemon that keeps the outputs open does not keep the caller.
    vm.run(&Command::sh("sleep 1000 & echo left").within(Duration::from_secs(20)))?.succeeded()?;
    let failed = vm.sh("echo what happened >&2; exit 3").unwrap_err();
    assert!(format!("{failed:?}").contains("what happened"), "{failed:?}");

    // Nobody asked for this boot; the caller learns of it at once.
    let panic = Command::sh("echo c >/proc/sysrq-trigger").within(Duration::from_secs(100));
    let error = format!("{:?}", vm.run(&panic).unwrap_err());
    assert!(error.contains("rebooted by itself") && error.contains("Kernel panic"), "{error}");
    // Nor is it to be mistaken for the machine that was, until someone says so.
    assert!(vm.sh("true").is_err());
    vm.reset()?;
    vm.sh("true")?;
    Ok(())
}

/// Starts the leash with a program that ends by no other hand; its pid.
fn on_a_leash(dir: &std::path::Path) -> (Child, i32) {
    let mut leash = std::process::Command::new(Bed::locate().unwrap().program())
        .arg("leash")
        .arg("--remove")
        .arg(dir)
        .args(["--", "sh", "-c", "echo $$; exec sleep 1000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    BufReader::new(leash.stdout.as_mut().unwrap()).read_line(&mut pid).unwrap();
    (leash, pid.trim().parse().unwrap())
}

fn ends(pid: i32) -> bool {
    (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        // A zombie has ended too; who buries it differs with the machine.
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z "))
    })
}

#[test]
fn a_machine_does_not_outlive_its_test_however_that_ends() {
    // The test ends, by SIGKILL or otherwise: the kernel closes its end of the pipe.
    let dir = tempfile::tempdir().unwrap().keep();
    let (mut leash, pid) = on_a_leash(&dir);
    drop(leash.stdin.take());
    assert!(ends(pid));
    leash.wait().unwrap();
    assert!(!dir.exists());

    // The leash itself is killed.
    let dir = tempfile::tempdir().unwrap();
    let (mut leash, pid) = on_a_leash(dir.path());
    leash.kill().unwrap();
    leash.wait().unwrap();
    assert!(ends(pid));
}

fn put_modules(vm: &Vm, set: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Bed::locate()?.modules(set).read_dir().unwrap() {
        let file = entry.unwrap();
        let name = file.file_name().into_string().unwrap();
        vm.put_file(&file.path(), &format!("/run/{set}/{name}"))?;
        names.push(name);
    }
    names.sort();
    Ok(names)
}

#[test]
fn a_node_with_systemd_is_the_same_node_and_boots_into_the_same() -> Result<()> {
    let vm = Vm::from_snapshot(Image::Systemd)?;
    println!("from the snapshot in {:.2?}", vm.started_in());
    assert_eq!(vm.sh("cat /proc/1/comm")?, "systemd");
    let addresses = "ip -o address show dev eth1 scope global | awk '{print $4}' | xargs";
    let expected = "10.0.2.15/24 10.0.2.16/24 fd77::15/64";
    assert_eq!(vm.sh(addresses)?, expected);
    let units = "systemctl is-active ovsdb-server ovs-vswitchd openvswitch-switch networking";
    let active = vm.sh(units)?;
    println!("up again after a power cut in {:.1?}", vm.reset()?);
    vm.sh("until systemctl is-system-running | grep -q 'running\\|degraded'; do sleep 0.2; done")?;
    println!("{}", vm.sh("systemd-analyze; systemd-analyze blame | head -n 8; cut -d. -f1 /proc/uptime; systemctl --failed --no-legend; free -m")?);
    assert_eq!(vm.sh(addresses)?, expected);
    assert_eq!(vm.sh(units)?, active);
    vm.sh("ip netns exec peer ping -n -q -c 1 -w 5 10.0.2.16 && ovs-vsctl --timeout=5 show")?;
    Ok(())
}

//! Two real kernels: an upgrade after the switch to upstream, and the way back by a downgrade.

use std::io::Write as _;
use std::process::{Command as Host, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use support::node::Node;
use support::operator::{Operator, Report};
use support::payload;
use support::vm::{Bed, Kernel, Result, Running};

/// A busy machine emulates slowly; a quiet one needs ten seconds.
const LONG: Duration = Duration::from_secs(400);

/// Modules alone, taken over by the next boot.
const PROFILES: &str = r#"
[node]
uplink = "eth1"
bridge = "br-int"

[profiles.nsx]
modules = "payload"
cni = "leave"
addresses = "leave"

[profiles.upstream]
modules = "in-tree"
cni = "leave"
addresses = "leave"
"#;

/// What the kernel package's scripts do on a host with GRUB: the image, and a menu that has
/// the first of these as its default.
fn grub(node: &Node, releases: &[&str]) -> Result<()> {
    let entry = |release: &&str| {
        format!("menuentry 'Linux {release}' {{\n\tlinux /boot/vmlinuz-{release} ro\n}}\n")
    };
    let menu: String = releases.iter().map(entry).collect();
    node.vm.put("/boot/grub/grub.cfg", format!("set default=\"0\"\n{menu}").as_bytes(), 0o644)
}

/// What a package manager does: unpacks the files, has depmod index them, tells the boot loader.
fn install(node: &Node, kernel: &Kernel, others: &[&str]) -> Result<()> {
    let release = &kernel.release;
    node.vm.put_file(kernel.package(), "/var/tmp/kernel.tar")?;
    node.vm.sh(&format!(
        "tar -C / -xf /var/tmp/kernel.tar; rm /var/tmp/kernel.tar; depmod {release}"
    ))?;
    let releases: Vec<&str> =
        std::iter::once(release.as_str()).chain(others.iter().copied()).collect();
    grub(node, &releases)
}

/// A node whose boot loader knows the root disk's kernel.
fn start() -> Result<(Node, Kernel, Kernel)> {
    let node = Node::start()?;
    node.configure(PROFILES)?;
    let (first, second) = (Kernel::first()?, Kernel::second()?);
    node.vm.put_file(first.image(), &format!("/boot/vmlinuz-{}", first.release))?;
    grub(&node, &[&first.release])?;
    Ok((node, first, second))
}

fn payload_build_id() -> Result<String> {
    Ok(payload::build_id(&Bed::locate()?.modules("nsx").join("openvswitch.ko")))
}

/// Of the package's own openvswitch, as `readelf` says it.
fn packaged_build_id(kernel: &Kernel) -> String {
    let tar = kernel.package().to_str().unwrap();
    let script = format!("tar -xOf '{tar}' --wildcards '*/openvswitch/openvswitch.ko.xz' | xz -dc");
    let module = Host::new("sh").args(["-c", &script]).stderr(Stdio::inherit()).output().unwrap();
    let mut copy = tempfile::NamedTempFile::new().unwrap();
    copy.write_all(&module.stdout).unwrap();
    payload::build_id(copy.path())
}

/// Waits for a report; how long that took.
fn until(
    operator: &Operator,
    agent: &Running<'_>,
    what: &str,
    holds: impl Fn(&Report) -> bool,
) -> Result<Report> {
    let begin = Instant::now();
    loop {
        let report = operator.annotations();
        if holds(&report) {
            println!("{what}: told after {:.1?}", begin.elapsed());
            return Ok(report);
        }
        assert!(begin.elapsed() < LONG, "{what}: {report:#?}\n{}", agent.log()?);
        thread::sleep(Duration::from_millis(200));
    }
}

/// By name, however the kernels sort.
fn line<'a>(report: &'a Report, kernel: &Kernel) -> &'a str {
    let lines = report.get("kernels").map(String::as_str).unwrap_or_default().lines();
    let mut of = lines.filter_map(|line| line.strip_prefix(&format!("{} ", kernel.release)));
    of.next().unwrap_or_default()
}

#[test]
fn a_node_is_switched_to_upstream_and_then_upgraded() -> Result<()> {
    let (mut node, first, second) = start()?;
    let nsx = payload_build_id()?;
    node.vm.sh("/usr/share/openvswitch/scripts/ovs-ctl stop")?;
    node.agent("modules apply --to payload --activate live")?;
    node.vm.start_ovs()?;
    assert_eq!(node.loaded_build_id()?, nsx);
    let operator = Operator::start(&node);
    let agent = operator.start_agent(&node)?;
    operator.ask("nsx");
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!(report["state"], "Done", "{report:#?}\n{}", agent.log()?);
    assert_eq!(
        report["kernels"],
        format!("{} ready=both set=nsx boot=running,next", first.release)
    );

    // what the removal of the package with those files does in every kernel's tree
    let set = format!("/lib/modules/{}/weak-updates/openvswitch", first.release);
    node.vm.sh(&format!("rm -r {set}; depmod {}", first.release))?;
    let begin = Instant::now();
    while node.vm.sh(&format!("modprobe --show-depends openvswitch | grep -c {set} || :"))? == "0" {
        assert!(begin.elapsed() < LONG, "{}", agent.log()?);
        thread::sleep(Duration::from_millis(300));
    }
    println!("erased files are back after {:.1?}", begin.elapsed());
    assert_eq!(node.loaded_build_id()?, nsx, "traffic has felt nothing of it");
    until(&operator, &agent, "repaired", |report| report["state"] == "Done")?;

    // the newer kernel, while NSX's set is what the profile asks for: nobody has a set for it
    install(&node, &second, &[&first.release])?;
    let report = until(&operator, &agent, "a kernel was installed", |report| {
        line(report, &second) == "ready=upstream set=in-tree boot=next nsx=NoPayloadForKernel"
    })?;
    assert_eq!(line(&report, &first), "ready=both set=nsx boot=running");
    assert!(report["message"].contains("and cannot load the payload's set"), "{report:#?}");
    let said = until_event(&operator, &agent, "KernelNotReady")?;
    assert!(said.contains(&second.release), "{said}");

    operator.ask("upstream");
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!((&*report["state"], &*report["reason"]), ("RebootRequired", "ModulesStaged"));
    assert_eq!(line(&report, &first), "ready=both set=in-tree boot=running");
    assert!(!report["message"].contains("warning"), "{report:#?}");
    assert_eq!(node.loaded_build_id()?, nsx, "memory has the old one until the reboot");
    agent.signal(15)?;
    agent.wait(LONG)?;

    node.vm.reboot_into(&second)?;
    node.vm.node_network()?;
    node.vm.start_ovs()?;
    assert_eq!(node.vm.sh("uname -r")?, second.release);
    assert_eq!(node.loaded_build_id()?, packaged_build_id(&second));
    let _kubelet = node.run_kubelet()?;
    operator.tell_boot_id(&node);
    let agent = operator.start_agent(&node)?;
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!(report["state"], "Done", "{report:#?}\n{}", agent.log()?);
    assert!(report["current-profile"].starts_with("upstream@sha256:"), "{report:#?}");
    assert_eq!(line(&report, &first), "ready=both set=in-tree");
    let expected = "ready=upstream set=in-tree boot=running,next nsx=NoPayloadForKernel";
    assert_eq!(line(&report, &second), expected);

    // and NSX is refused here, by a reason that says why
    operator.ask("nsx");
    let report = operator.wait(&node, LONG, |_, _| {})?;
    assert_eq!((&*report["state"], &*report["reason"]), ("Refused", "NoPayloadForKernel"));
    Ok(())
}

fn until_event(operator: &Operator, agent: &Running<'_>, reason: &str) -> Result<String> {
    let begin = Instant::now();
    loop {
        let field = format!("reason={reason}");
        let events = [
            "get",
            "events",
            "-A",
            "--field-selector",
            &field,
            "-o",
            "jsonpath={.items[*].message}",
        ];
        let said = operator.cluster.kubectl(&events);
        if !said.trim().is_empty() {
            return Ok(said);
        }
        assert!(begin.elapsed() < LONG, "no Event {reason}\n{}", agent.log()?);
        thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn a_node_is_downgraded_and_switched_to_nsx() -> Result<()> {
    let (mut node, first, second) = start()?;
    let nsx = payload_build_id()?;
    install(&node, &second, &[&first.release])?;
    node.vm.reboot_into(&second)?;
    node.vm.sh("modprobe openvswitch")?;
    let upstream = packaged_build_id(&second);
    assert_eq!(node.loaded_build_id()?, upstream);
    let refused = node.try_agent("modules plan --to payload")?;
    assert_eq!(refused.code(), Some(3), "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stdout.contains("NoPayloadForKernel"), "{}", refused.stdout);

    // the kernel that is gone back to, made the next one and given its set from here
    grub(&node, &[&first.release, &second.release])?;
    let table = node.agent("kernels")?;
    println!("{table}");
    let row = |table: &str, kernel: &Kernel| {
        let row = table.lines().find(|line| line.starts_with(&kernel.release)).unwrap_or_default();
        row.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row(&table, &first), "next in-tree can be staged on disk both");
    assert_eq!(row(&table, &second), "running in-tree no on disk upstream");
    let tree = format!(
        "cd /lib/modules/{}; find . -type f -exec sha256sum {{}} + | sort -k2",
        second.release
    );
    let before = node.vm.sh(&tree)?;
    let release = &first.release;
    node.agent(&format!("modules apply --to payload --kernel {release} --activate reboot"))?;
    let table = node.agent("kernels")?;
    assert_eq!(row(&table, &first), "next nsx on disk can be staged both");
    assert_eq!(node.vm.sh(&tree)?, before, "the running kernel's tree is as it was");
    assert_eq!(node.loaded_build_id()?, upstream);

    node.vm.reboot_into(&first)?;
    node.vm.node_network()?;
    node.vm.start_ovs()?;
    assert_eq!(node.vm.sh("uname -r")?, first.release);
    assert_eq!(node.loaded_build_id()?, nsx, "loaded by the first boot");
    let done = node.agent("apply --profile nsx")?;
    assert!(done.contains("nothing to do"), "{done}");
    Ok(())
}

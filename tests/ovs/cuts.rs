//! The shipped agent, ended by SIGKILL before and after each step of a handover, there and back:
//! what the steps are is what it says, so a new one is cut too. Then either the next agent
//! takes the way back, or the dead-man goes to the harbour first.

use crate::lockstep::Held;
use crate::make_nic;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::netns::Peer;
use support::ovs::{OvsFixture, command};

/// A machine that is shared takes its time.
const LONG: Duration = Duration::from_secs(60);
const THERE: &str = "bridge";
const BACK: &str = "uplink";

/// What the state directory holds when nobody is at work, beside one word for how the last
/// dead-man ended.
const AT_REST: [&str; 5] = ["journal.json", "lock", "pointsman", "progress", "store"];
/// The room that is kept for the next way back; it may be there.
const SPARE: [&str; 5] = ["spare.1", "spare.2", "spare.3", "spare.4", "spare.record"];

/// Who finds first what the killed agent left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finder {
    /// The next agent; the dead-man is killed with the first one.
    Agent,
    /// The dead-man, and the next agent after it.
    Deadman,
}

struct Bench {
    ovs: OvsFixture,
    gateway: Peer,
    program: PathBuf,
    state: tempfile::TempDir,
}

/// All that a handover could leave in a wrong place, by `ip`, `nft` and `ovs-vsctl`.
#[derive(Debug, PartialEq, Eq)]
struct Witness(BTreeSet<String>);

impl Bench {
    /// Two families, a secondary, an address without its prefix's route, a table of its own
    /// with a rule by name, a route of another link from our address, a strict filter.
    fn new() -> Self {
        let ovs = OvsFixture::start();
        make_nic("nic0");
        make_nic("other0");
        let gateway = Peer::start();
        gateway.takes("nic0-peer");
        for what in ["192.0.2.1/24", "2001:db8::1/64 nodad"] {
            gateway.ip(&format!("address add {what} dev nic0-peer"));
        }
        let ip = |arguments: &str| {
            let mut argv = vec!["ip"];
            argv.extend(arguments.split_whitespace());
            command(&argv)
        };
        for what in [
            "address add 192.0.2.7/24 dev nic0",
            "address add 192.0.2.8/24 dev nic0 label nic0:two",
            "address add 198.51.100.7/24 dev nic0 noprefixroute metric 300",
            "-6 address add 2001:db8::7/64 dev nic0 nodad",
            "address add 203.0.113.2/24 dev other0",
            "route add default via 192.0.2.1",
            "route add 10.1.0.0/16 via 192.0.2.1 dev nic0 src 192.0.2.8",
            "route add 10.2.0.0/16 via 192.0.2.1 dev nic0 table 100",
            "route add 10.3.0.0/16 via 203.0.113.1 dev other0 src 192.0.2.7",
            "rule add iif nic0 lookup 100 priority 1000",
            "-6 route add default via 2001:db8::1",
            "neighbour add 192.0.2.66 lladdr 02:00:00:00:77:66 dev nic0 nud permanent",
        ] {
            ip(what);
        }
        fs::write("/proc/sys/net/ipv4/conf/nic0/rp_filter", "1").unwrap();
        ovs.vsctl(&["add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev"]);
        let state = tempfile::tempdir().unwrap();
        let configuration = format!(
            "[node]\nuplink = \"nic0\"\novsdb = \"unix:{}\"\naccept = [\"UplinkNotPersistent\"]\n",
            ovs.socket().display()
        );
        fs::write(ovs.directory().join("pointsman.toml"), configuration).unwrap();
        let program = support::program::pointsman();
        Self { ovs, gateway, program, state }
    }

    fn agent(&self, to: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.ovs.directory().join("pointsman.toml"));
        command.arg("--state-dir").arg(self.state.path());
        command.args(["handover", "apply", "--to", to]);
        command
    }

    /// To its end, and well.
    fn go(&self, to: &str) -> Vec<String> {
        let (status, said) = Held::start(&mut self.agent(to)).finish();
        assert!(status.success(), "--to {to}: {status}\n{}", said.concat());
        said
    }

    /// Processes of the dead-man.
    fn deadmen(&self) -> Vec<u32> {
        let place = self.state.path().to_str().unwrap();
        let is_one = |pid: &u32| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.contains("\0deadman\0") && line.contains(place)
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(is_one).collect()
    }

    fn until_no_deadman(&self) {
        let start = Instant::now();
        while !self.deadmen().is_empty() {
            assert!(start.elapsed() < LONG, "a dead-man still runs: {}", self.progress());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill_deadmen(&self) {
        for pid in self.deadmen() {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            // it may have ended by itself
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap_or_default();
        }
        self.until_no_deadman();
    }

    fn progress(&self) -> String {
        fs::read_to_string(self.state.path().join("progress")).unwrap_or_default()
    }

    /// The node answers its peer, in both families.
    #[track_caller]
    fn answers(&self, when: &str) {
        for target in ["192.0.2.7", "192.0.2.8", "2001:db8::7"] {
            let answered = self.gateway.run(move || {
                let argv = ["-n", "-q", "-c", "1", "-W", "1", target];
                (0..5).any(|_| Command::new("ping").args(argv).output().unwrap().status.success())
            });
            assert!(answered, "{target} does not answer {when}\n{}", self.progress());
        }
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state.path()).unwrap().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    }

    fn hear(&self) -> Witness {
        let mut lines = BTreeSet::new();
        for what in [
            "-o address show",
            "route show table all",
            "-6 route show table all",
            "rule show",
            "-6 rule show",
            "neighbour show nud permanent",
            "-br link show",
        ] {
            let mut argv = vec!["ip"];
            argv.extend(what.split_whitespace());
            for line in command(&argv).lines() {
                // of the kernel's own making, and of each device that is up
                if !["fe80", "ff00::/8", "LOWER_UP"].iter().any(|own| line.contains(own)) {
                    let line = line.split(": ").last().unwrap_or(line);
                    lines.insert(format!("{what}: {line}"));
                }
            }
        }
        let names = command(&["ls", "/proc/sys/net/ipv4/conf"]);
        for name in names.split_whitespace() {
            let filter = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
            lines.insert(format!("rp_filter of {name}: {}", filter.unwrap_or_default().trim()));
        }
        lines.extend(command(&["nft", "list", "ruleset"]).lines().map(str::to_owned));
        let vsctl = |arguments: &[&str]| self.ovs.vsctl(arguments);
        lines.insert(format!("ports: {}", vsctl(&["list-ports", "br-int"])));
        lines.insert(format!("wait: {}", vsctl(&["get", "Open_vSwitch", ".", "other_config"])));
        Witness(lines)
    }

    #[track_caller]
    fn is_as(&self, expected: &Witness, when: &str) {
        let found = self.hear();
        let more: Vec<_> = found.0.difference(&expected.0).collect();
        let less: Vec<_> = expected.0.difference(&found.0).collect();
        assert!(
            more.is_empty() && less.is_empty(),
            "{when}: too much {more:#?}, lost {less:#?}\n{}",
            self.progress()
        );
    }

    #[track_caller]
    fn nothing_is_left(&self, when: &str) {
        let mut files = self.files();
        let ends = files.extract_if(.., |name| ["disarmed", "fired"].contains(&name.as_str()));
        assert_eq!(ends.count(), 1, "{when}");
        files.retain(|name| !SPARE.contains(&name.as_str()));
        assert_eq!(files, AT_REST, "{when}");
    }
}

/// Each cut's agent finds what the one before left: takes it back, and is cut one line later.
fn cut_everywhere(to: &str, finder: Finder) {
    let bench = Bench::new();
    let uplink = bench.hear();
    bench.go(THERE);
    let there = bench.hear();
    assert_ne!(uplink, there);
    bench.answers("on the bridge");
    bench.go(BACK);
    // a bridge that was made ready stays so
    let home = bench.hear();
    bench.answers("at home");
    bench.nothing_is_left("at home");
    let (start, end) = if to == THERE { (&home, &there) } else { (&there, &home) };
    if to == BACK {
        bench.go(THERE);
        bench.is_as(&there, "there again");
    }

    let mut cuts = 0;
    let mut steps = Vec::new();
    loop {
        let mut agent = Held::start(&mut bench.agent(to));
        assert!(agent.until("Preparing"), "{}", agent.said.concat());
        let when = format!("to the {to}, {finder:?}, after cut {cuts}: {}", agent.said.concat());
        let found = agent.said.iter().find(|line| line.starts_with("an unfinished"));
        assert_eq!(found.is_some(), cuts > 0, "{when}");
        let reached = found.is_some_and(|found| found.contains("Reached"));
        bench.is_as(if reached { end } else { start }, &when);
        bench.answers(&when);
        if cuts > 0 {
            bench.nothing_is_left(&when);
        }
        if reached {
            // what follows the last step: once is enough, and it has nothing to do
            break;
        }
        // the first line that speaks of a step, and so many more
        let mut goes_on = agent.until("Applying");
        let first = agent.said.len() - 1;
        for _ in 0..cuts {
            goes_on = goes_on && agent.until("");
        }
        if !goes_on {
            // a dead-man that fired leaves no goal reached: here is one line less than cuts
            assert_eq!(finder, Finder::Deadman, "{when}: {}", agent.said.concat());
            let (status, said) = agent.finish();
            assert!(status.success(), "{when}: {status}\n{}", said.concat());
            bench.is_as(end, "never cut");
            bench.answers("never cut");
            break;
        }
        steps.clone_from(&agent.said[first..].to_vec());
        if finder == Finder::Agent {
            bench.kill_deadmen();
        }
        agent.kill();
        // the next agent after each line; a dead-man, whose way is the same for all, after each third
        cuts += if finder == Finder::Agent { 1 } else { 3 };
        let when = format!("to the {to}, cut {cuts}");
        bench.answers(&when);
        if finder == Finder::Deadman {
            bench.until_no_deadman();
            let fired = bench.state.path().join("fired");
            assert!(fired.exists(), "{when}: {:?}", bench.files());
            let found = bench.hear();
            let harbour = found.0.iter().any(|line| line == "ports: ");
            assert!(harbour, "{when}: {found:#?}\n{}", bench.progress());
            bench.answers(&format!("{when}, in the harbour"));
        }
    }
    let known = steps.iter().filter(|line| line.starts_with("Applying: ")).count();
    println!(
        "to the {to}, {finder:?}: {cuts} cuts, {known} of them before a step or a stage's end"
    );
    assert!(known > 15, "{steps:#?}");
}

#[test]
fn there_and_the_next_agent_finds_it() {
    cut_everywhere(THERE, Finder::Agent);
}

#[test]
fn back_and_the_next_agent_finds_it() {
    cut_everywhere(BACK, Finder::Agent);
}

#[test]
fn there_and_the_dead_man_finds_it() {
    cut_everywhere(THERE, Finder::Deadman);
}

#[test]
fn back_and_the_dead_man_finds_it() {
    cut_everywhere(BACK, Finder::Deadman);
}

/// Before the way back is on disk, in the middle of a step, while it is verified.
#[test]
fn at_any_moment() {
    const RUNS: u64 = 16;
    let bench = Bench::new();
    bench.go(THERE);
    let start = Instant::now();
    bench.go(BACK);
    let whole = start.elapsed();
    let home = bench.hear();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for run in 0..RUNS {
        let to = if run % 2 == 0 { THERE } else { BACK };
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let after = whole.mul_f64(f64::from(u8::try_from(random >> 56).unwrap()) / 256.0);
        let mut agent = bench.agent(to);
        let mut agent = agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        drop(agent.kill());
        agent.wait().unwrap();
        let when = format!("run {run} to the {to}, killed after {after:?}");
        if random & 1 == 0 {
            bench.kill_deadmen();
        }
        bench.answers(&when);
        // the next one may be early: a dead-man that is at work is waited for
        bench.go(BACK);
        bench.is_as(&home, &when);
        bench.answers(&when);
        bench.until_no_deadman();
        bench.nothing_is_left(&when);
        if run % 4 == 1 {
            bench.go(THERE);
        }
    }
}

/// With the lock in its hand, and nobody to end it but the dead-man.
#[test]
fn an_agent_that_stands_still_with_the_lock() {
    let bench = Bench::new();
    bench.go(THERE);
    bench.go(BACK);
    let home = bench.hear();
    let mut agent = Held::start(&mut bench.agent(THERE));
    assert!(agent.until("Applying"));
    // two steps behind the attach: a daemon's step is given more than a minute
    let mut behind = 0;
    while behind < 4 {
        assert!(agent.until("Applying"), "it never attached: {}", agent.said.concat());
        behind += u32::from(bench.hear().0.contains("ports: nic0"));
    }
    agent.freeze();
    // another one is told who has the lock, and changes nothing
    let output = bench.agent(BACK).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("AnotherAgentAtWork"), "{words}");
    assert!(words.contains(&format!("pid {}", agent.child.id())), "{words}");
    bench.answers("while it stands");
    let deadline = deadline(bench.state.path());
    bench.until_no_deadman();
    assert!(boottime() >= deadline, "it was given its time");
    assert!(bench.state.path().join("fired").exists(), "{:?}", bench.files());
    assert!(agent.child.try_wait().unwrap().is_some(), "the dead-man ended it");
    bench.answers("in the harbour");
    let said = bench.go(BACK).concat();
    assert!(said.contains("RolledBack"), "{said}");
    bench.is_as(&home, "after the next agent");
    bench.nothing_is_left("after the next agent");
    bench.go(THERE);
    bench.answers("on the bridge at last");
}

/// When the step of the one dead-man that is armed should be over, in milliseconds.
fn deadline(directory: &Path) -> u128 {
    let mut files = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let is_clock = |path: &PathBuf| path.to_string_lossy().contains("/deadline.");
    let text = fs::read_to_string(files.find(is_clock).expect("a deadline")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn boottime() -> u128 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    Duration::from(now).as_millis()
}

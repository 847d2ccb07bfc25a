//! Programs that run in the host's network namespace, a pod's with host network among them.

use std::fs;

/// A running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// Its arguments, the program first.
    pub(crate) arguments: Vec<String>,
}

impl Process {
    /// The program's name without its directory; of busybox the applet's.
    pub(crate) fn name(&self) -> &str {
        let base = |word: &String| -> Option<usize> { word.rfind('/').map(|at| at + 1) };
        let mut words = self.arguments.iter();
        let first =
            words.next().map_or("", |word| word.get(base(word).unwrap_or(0)..).unwrap_or(""));
        // a daemon that renames itself: `dhcpcd: eth1 [ip4]`
        let first = first.split(':').next().unwrap_or(first).trim();
        if first == "busybox" { words.next().map_or(first, String::as_str) } else { first }
    }

    /// Whether an argument is this word.
    pub(crate) fn says(&self, word: &str) -> bool {
        self.arguments
            .iter()
            .skip(1)
            .chain(self.arguments.first())
            .any(|found| found.split_whitespace().any(|part| part == word))
    }
}

/// Those that share this thread's network namespace. A process that went meanwhile, or
/// whose namespace this one may not see, is left out.
pub(crate) fn here() -> Vec<Process> {
    let Ok(own) = fs::read_link("/proc/thread-self/ns/net") else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<Process> = pids
        .filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link == own))
        .filter_map(|pid| {
            let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            let arguments: Vec<String> =
                words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            // a zombie and a thread of the kernel have none
            (!arguments.is_empty()).then_some(Process { pid, arguments })
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(words: &[&str]) -> Process {
        Process { pid: 1, arguments: words.iter().map(|word| (*word).to_owned()).collect() }
    }

    #[test]
    fn names_without_directories() {
        assert_eq!(process(&["/sbin/dhclient", "-v", "eth1"]).name(), "dhclient");
        assert_eq!(process(&["/bin/busybox", "udhcpc", "-i", "eth1"]).name(), "udhcpc");
        assert_eq!(process(&["dhcpcd: eth1 [ip4]"]).name(), "dhcpcd");
        assert!(process(&["dhcpcd: eth1 [ip4]"]).says("eth1"));
        assert!(!process(&["dhclient", "eth10"]).says("eth1"));
    }

    #[test]
    fn this_one_is_here() {
        let own = std::process::id();
        assert!(here().iter().any(|process| process.pid == own));
    }
}

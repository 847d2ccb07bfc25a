//! The table for a person, and the annotation for a script.

use super::{Fitness, Kernel, Kernels, Ready};
use std::fmt;

/// Longest annotation, bytes: room for a hundred kernels, and far from what the API server
/// stores for all annotations together (256 KiB).
const LIMIT: usize = 8 << 10;

impl Ready {
    /// The word of the report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Nsx => "nsx",
            Self::Upstream => "upstream",
            Self::Neither => "neither",
            Self::Unknown => "unknown",
        }
    }
}

impl Fitness {
    fn word(&self) -> &'static str {
        match self {
            Self::OnDisk => "on disk",
            Self::Stageable { .. } => "can be staged",
            Self::Unfit(_) => "no",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl Kernel {
    /// `running`, `next`, `leftover`, in this order.
    fn boot(&self) -> Vec<&'static str> {
        let words = [
            (self.running, "running"),
            (self.next == Some(true), "next"),
            (self.leftover, "leftover"),
        ];
        words.into_iter().filter_map(|(holds, word)| holds.then_some(word)).collect()
    }

    /// One line of the annotation: `RELEASE ready=both set=nsx boot=running,next`, then
    /// what stands against a set, `nsx=REASON upstream=REASON`, and faults of the index.
    fn line(&self) -> String {
        let mut boot = self.boot();
        if self.next.is_none() && !self.leftover {
            boot.push("unknown");
        }
        let mut words = vec![self.release.clone()];
        words.push(format!("ready={}", self.ready.word()));
        words.push(format!("set={}", self.set.word()));
        if !boot.is_empty() {
            words.push(format!("boot={}", boot.join(",")));
        }
        for (set, fitness) in [("nsx", &self.nsx), ("upstream", &self.upstream)] {
            words.extend(fitness.why().map(|why| format!("{set}={}", why.reason)));
        }
        words.extend(self.faults.iter().map(|fault| {
            let noun = if fault.reason.starts_with("Initramfs") { "initramfs" } else { "index" };
            format!("{noun}={}", fault.reason)
        }));
        words.join(" ")
    }

    fn cells(&self) -> [String; 6] {
        let boot = self.boot().join(", ");
        [
            self.release.clone(),
            if boot.is_empty() { "-".into() } else { boot },
            self.set.word().into(),
            self.nsx.word().into(),
            self.upstream.word().into(),
            self.ready.word().into(),
        ]
    }

    fn reasons(&self) -> Vec<String> {
        let release = &self.release;
        let mut lines = Vec::new();
        for (set, fitness) in [("nsx", &self.nsx), ("upstream", &self.upstream)] {
            let Some(why) = fitness.why() else { continue };
            lines.push(format!("{release}: {set}: {}: {}", why.reason, why.message));
        }
        if self.leftover {
            // both for the same reason
            lines.truncate(1);
        }
        for fault in &self.faults {
            lines.push(format!("{release}: index: {}: {}", fault.reason, fault.message));
        }
        for module in &self.loaded {
            let (name, identity) = (&module.name, &module.identity);
            let witness = module.witness.word();
            let of = module.set.map_or_else(
                || format!("unknown ({witness}; {identity})"),
                |set| format!("{} ({identity})", set.word()),
            );
            lines.push(format!("{release}: loaded: {name}: {of}"));
        }
        lines
    }
}

impl Kernels {
    /// The annotation: one line per kernel, whole lines only.
    pub fn annotation(&self) -> String {
        let mut text = String::new();
        for line in self.kernels.iter().map(Kernel::line) {
            if text.len().saturating_add(line.len()) >= LIMIT {
                break;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line);
        }
        text
    }
}

/// A table, then the reasons and what is loaded, then which kernel boots next and why.
impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["KERNEL", "BOOT", "SET", "NSX", "UPSTREAM", "READY FOR"].map(str::to_owned);
        let rows: Vec<[String; 6]> =
            std::iter::once(head).chain(self.kernels.iter().map(Kernel::cells)).collect();
        for row in &rows {
            let padded = row.iter().enumerate().map(|(column, cell)| {
                let widths = rows.iter().filter_map(|row| row.get(column).map(String::len));
                let width = widths.max().unwrap_or_default();
                format!("{cell:width$}")
            });
            let line: Vec<String> = padded.collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        for line in self.kernels.iter().flat_map(Kernel::reasons) {
            writeln!(f, "{line}")?;
        }
        match &self.next.release {
            Some(release) => writeln!(f, "boots next: {release} ({})", self.next.how),
            None => writeln!(f, "boots next: unknown ({})", self.next.how),
        }
    }
}

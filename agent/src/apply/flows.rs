//! Flows, groups, meters and TLV maps of bridges: saved by the host's own `ovs-ofctl`, in the
//! form in which it takes them back.
//!
//! Four files per bridge in the store. They mean something only while the mark in the database
//! says that they wait for their return: others are litter, overwritten by the next ones.

use super::{Applied, Executor};
use crate::disk::{self, DiskError};
use crate::host_command::{CommandError, Output};
use crate::ovsdb;
use pointsman_core::error::Reasoned;
use pointsman_core::model::Ovs;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// A hundred thousand flows are taken in a few seconds.
const TOOL: Duration = Duration::from_secs(60);
/// Every version there is: the highest that both sides know is spoken.
const VERSIONS: &str = "OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15";
/// The files of a bridge; the last one makes them whole.
const PARTS: [Part; 4] = [Part::TlvMap, Part::Meters, Part::Groups, Part::Flows];

/// What a bridge holds, in the order in which it is put back: what is named before what names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    TlvMap,
    Meters,
    Groups,
    Flows,
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::TlvMap => "tlv-map",
            Self::Meters => "meters",
            Self::Groups => "groups",
            Self::Flows => "flows",
        }
    }

    fn dump(self) -> &'static [&'static str] {
        match self {
            Self::TlvMap => &["dump-tlv-map"],
            Self::Meters => &["dump-meters"],
            Self::Groups => &["dump-groups"],
            // numbers: a name may be given to another port meanwhile
            Self::Flows => &["--no-stats", "--no-names", "dump-flows"],
        }
    }

    /// From what is printed to what is taken.
    fn restorable(self, dump: &str) -> String {
        match self {
            Self::TlvMap => tlv_map(dump),
            Self::Meters => meters(dump),
            Self::Groups => lines_with(dump, "group_id="),
            Self::Flows => lines_with(dump, "actions="),
        }
    }
}

#[derive(Debug, Error)]
enum FlowError {
    #[error("save the {what} of {bridge}")]
    Save {
        what: &'static str,
        bridge: String,
        #[source]
        source: CommandError,
    },
    #[error("put the {what} of {bridge} back")]
    Restore {
        what: &'static str,
        bridge: String,
        #[source]
        source: CommandError,
    },
    #[error("keep {}", path.display())]
    Disk {
        path: PathBuf,
        #[source]
        source: DiskError,
    },
    #[error("open {}", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Reasoned for FlowError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Save { .. } => "FlowsNotSaved",
            Self::Restore { .. } => "FlowsNotRestored",
            Self::Disk { source, .. } => source.reason(),
            Self::Open { .. } => "FileOperationFailed",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Save { source, .. } | Self::Restore { source, .. } => source.is_transient(),
            Self::Disk { .. } | Self::Open { .. } => false,
        }
    }
}

fn boxed<E: Reasoned>(error: E) -> Box<dyn Reasoned> {
    Box::new(error)
}

/// The bridges whose flows lie there whole, while they wait for their return.
pub(crate) fn saved(executor: &Executor, ovs: &Ovs) -> Vec<String> {
    let Some(known) = ovs.database.as_ref().or(ovs.stopped.as_ref()) else { return Vec::new() };
    let there = |name: &&String| PARTS.iter().all(|part| executor.flows_at(name, *part).is_file());
    let names = known.bridges.iter().map(|bridge| &bridge.name);
    names.filter(|_| known.restoring).filter(there).cloned().collect()
}

impl Executor {
    fn flows_directory(&self) -> PathBuf {
        self.store.join("openflow")
    }

    /// A bridge's name is one of a device, so it has no slash.
    fn flows_at(&self, bridge: &str, part: Part) -> PathBuf {
        self.flows_directory().join(format!("{}.{}", bridge.replace('/', "_"), part.word()))
    }

    pub(super) fn save_flows(&self, bridges: &[String]) -> Applied {
        let directory = self.flows_directory();
        let made = fs::create_dir_all(&directory);
        made.map_err(|source| boxed(FlowError::Open { path: directory.clone(), source }))?;
        for bridge in bridges {
            for part in PARTS {
                let text = self.dump(bridge, part)?;
                let path = self.flows_at(bridge, part);
                disk::write_whole(&path, 0o600, text.as_bytes())
                    .map_err(|source| boxed(FlowError::Disk { path, source }))?;
            }
        }
        disk::sync_directory_of(&directory)
            .map_err(|source| boxed(FlowError::Disk { path: directory, source }))
    }

    fn dump(&self, bridge: &str, part: Part) -> Result<String, Box<dyn Reasoned>> {
        let raw = self.flows_directory().join("dump");
        let open = |source| boxed(FlowError::Open { path: raw.clone(), source });
        let output = File::create(&raw).map_err(open)?;
        let said = self.ofctl(part.dump(), bridge, &[], (None, Some(output)));
        let dump = fs::read(&raw).map_err(open)?;
        fs::remove_file(&raw).map_err(open)?;
        let (what, bridge) = (part.word(), bridge.to_owned());
        match said {
            Ok(_) => Ok(part.restorable(&String::from_utf8_lossy(&dump))),
            // what the bridge does not know, it does not hold
            Err(error) if part != Part::Flows && is_unknown(&error, &dump) => Ok(String::new()),
            Err(source) => Err(boxed(FlowError::Save { what, bridge, source })),
        }
    }

    pub(super) fn hold_flows(&self) -> Applied {
        ovsdb::hold_flows(&mut self.ovsdb_client()?).map(drop).map_err(boxed)
    }

    pub(super) fn restore_flows(&self, bridge: &str) -> Applied {
        for part in PARTS {
            let path = self.flows_at(bridge, part);
            let open = |source| boxed(FlowError::Open { path: path.clone(), source });
            let failed = |source| {
                let (what, bridge) = (part.word(), bridge.to_owned());
                boxed(FlowError::Restore { what, bridge, source })
            };
            let empty = fs::metadata(&path).map_err(open)?.len() == 0;
            match part {
                // a bridge that dropped everything does so again
                Part::Flows => {
                    let file = File::open(&path).map_err(open)?;
                    self.ofctl(&["replace-flows"], bridge, &["-"], (Some(file), None))
                        .map_err(failed)?;
                }
                _ if empty => {}
                Part::TlvMap => self.restore_tlv_map(bridge, &path)?,
                Part::Meters => {
                    let text = fs::read_to_string(&path).map_err(open)?;
                    for meter in text.lines() {
                        // mod-meter: the way back may find it there already
                        let add = self.ofctl(&["add-meter"], bridge, &[meter], (None, None));
                        add.or_else(|_| self.ofctl(&["mod-meter"], bridge, &[meter], (None, None)))
                            .map_err(failed)?;
                    }
                }
                Part::Groups => {
                    self.ofctl(&["del-groups"], bridge, &[], (None, None)).map_err(failed)?;
                    let file = File::open(&path).map_err(open)?;
                    self.ofctl(&["add-groups"], bridge, &["-"], (Some(file), None))
                        .map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// Only what is not there: a mapping that is cannot be made again, nor taken away from
    /// under a flow.
    fn restore_tlv_map(&self, bridge: &str, path: &Path) -> Applied {
        let open = |source| boxed(FlowError::Open { path: path.to_owned(), source });
        let wanted = fs::read_to_string(path).map_err(open)?;
        let there = self.dump(bridge, Part::TlvMap)?;
        let missing: Vec<&str> =
            wanted.lines().filter(|line| !there.lines().any(|found| found == *line)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let (what, mapping) = (Part::TlvMap.word(), missing.join(","));
        self.ofctl(&["add-tlv-map"], bridge, &[&mapping], (None, None))
            .map(drop)
            .map_err(|source| boxed(FlowError::Restore { what, bridge: bridge.to_owned(), source }))
    }

    /// The mark goes first: files without it are litter, and a mark without files would be a
    /// wait for nothing.
    pub(super) fn release_flows(&self) -> Applied {
        ovsdb::release_flows(&mut self.ovsdb_client()?).map_err(boxed)?;
        let entries = fs::read_dir(self.flows_directory()).into_iter().flatten().flatten();
        for entry in entries {
            if let Err(error) = fs::remove_file(entry.path()) {
                tracing::debug!(path = %entry.path().display(), %error, "stays");
            }
        }
        Ok(())
    }

    /// By the bridge's own socket beside the database's, as the host sees it.
    fn ofctl(
        &self,
        words: &[&str],
        bridge: &str,
        operands: &[&str],
        (input, output): (Option<File>, Option<File>),
    ) -> Result<Output, CommandError> {
        let run = self.ovsdb.parent().unwrap_or(Path::new("/"));
        let run = match run.strip_prefix(self.root.path()) {
            Ok(inside) => Path::new("/").join(inside),
            Err(_) => run.to_owned(),
        };
        let socket = format!("unix:{}/{bridge}.mgmt", run.display());
        let mut argv = vec!["ovs-ofctl", "-O", VERSIONS];
        argv.extend(words);
        argv.push(&socket);
        argv.extend(operands);
        self.tools.run_on(&argv, input, output, TOOL)
    }
}

/// A bridge that is held to an old `OpenFlow` has no such thing.
fn is_unknown(error: &CommandError, dump: &[u8]) -> bool {
    let CommandError::Failed { output, .. } = error else { return false };
    let said = format!("{output}{}", String::from_utf8_lossy(dump));
    [
        "OFPBRC_BAD_TYPE",
        "OFPBRC_BAD_STAT",
        "OFPBRC_BAD_MULTIPART",
        "OFPBRC_BAD_VERSION",
        "any of the usable",
    ]
    .iter()
    .any(|word| said.contains(word))
}

/// The lines that say something, without the heading and what is before them.
fn lines_with(dump: &str, word: &str) -> String {
    let lines = dump.lines().map(str::trim).filter(|line| line.contains(word));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// `meter=1 kbps bands=` and a line for each of its bands, put on one line.
fn meters(dump: &str) -> String {
    let mut text = String::new();
    for line in dump.lines().map(str::trim) {
        if line.starts_with("meter=") {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str(line);
        } else if line.starts_with("type=") && !text.is_empty() {
            text.push_str(if text.ends_with('=') { "" } else { "," });
            text.push_str(line);
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// `0xffff 0x0 4 tun_metadata0` as `{class=0xffff,type=0x0,len=4}->tun_metadata0`.
fn tlv_map(dump: &str) -> String {
    let mapping = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [class, kind, length, field] = columns.as_slice() else { return None };
        let said = class.starts_with("0x") && field.starts_with("tun_metadata");
        said.then(|| format!("{{class={class},type={kind},len={length}}}->{field}\n"))
    };
    dump.lines().filter_map(mapping).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_become_what_is_taken_back() {
        let map = "NXT_TLV_TABLE_REPLY (xid=0x4):\n max option space=256 max fields=64\n\
                   allocated option space=4\nmapping table:\n class  type  length  match field\n\
                   ------  ----  ------  --------------\n 0xffff  0x1  4  tun_metadata0\n";
        assert_eq!(Part::TlvMap.restorable(map), "{class=0xffff,type=0x1,len=4}->tun_metadata0\n");
        let meters = "OFPST_METER_CONFIG reply (OF1.5) (xid=0x2):\nmeter=1 kbps burst bands=\n\
                      type=drop rate=9 burst_size=8\ntype=drop rate=7 burst_size=6\n\n\
                      meter=2 pktps bands=\ntype=drop rate=5\n";
        assert_eq!(
            Part::Meters.restorable(meters),
            "meter=1 kbps burst bands=type=drop rate=9 burst_size=8,type=drop rate=7 \
             burst_size=6\nmeter=2 pktps bands=type=drop rate=5\n"
        );
        let flows = "OFPST_FLOW reply (OF1.5) (xid=0x2):\n priority=1,ip actions=drop\n";
        assert_eq!(Part::Flows.restorable(flows), "priority=1,ip actions=drop\n");
        for part in PARTS {
            assert_eq!(part.restorable("\0\u{fffd}=,,\n"), "");
        }
    }
}

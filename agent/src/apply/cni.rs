//! CNI plugins: run once, staged, before they replace anything.

use super::file::{boxed, expect};
use super::{Applied, Executor};
use crate::disk;
use crate::host_command::{CommandError, HostTools, Output, while_busy};
use crate::ledger;
use pointsman_core::error::Reasoned;
use pointsman_core::plan::cni::Step;
use pointsman_core::plan::file::{Source, staged_beside};
use serde_json::Value;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;

/// A plugin answers VERSION within milliseconds; a node under load may need more.
const LIMIT: Duration = Duration::from_secs(10);

/// What the CNI specification wants beside the command; old plugins check all of it, as
/// `invoke.GetVersionInfo` of libcni knows.
const ENVIRONMENT: [(&str, &str); 5] = [
    ("CNI_COMMAND", "VERSION"),
    ("CNI_NETNS", "dummy"),
    ("CNI_IFNAME", "dummy"),
    ("CNI_CONTAINERID", "dummy"),
    ("CNI_PATH", "dummy"),
];

#[derive(Debug, Error)]
enum ProbeError {
    #[error("the payload's plugin for {path} does not run on this host")]
    Run {
        path: String,
        #[source]
        source: CommandError,
    },
    #[error("the payload's plugin for {path} answers VERSION with `{answer}`, which is no answer")]
    Answer { path: String, answer: String },
    #[error("the payload's plugin for {path} supports CNI {supported}, not {wanted}")]
    Unsupported { path: String, supported: String, wanted: String },
    #[error("remove the staged {path}")]
    Remove {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Reasoned for ProbeError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Run { .. } | Self::Answer { .. } | Self::Unsupported { .. } => {
                "PluginProbeFailed"
            }
            Self::Remove { .. } => "FileOperationFailed",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::Run { source, .. } => source.is_transient(),
            Self::Answer { .. } | Self::Unsupported { .. } | Self::Remove { .. } => false,
        }
    }
}

impl Executor {
    pub(super) fn apply_cni(&self, step: &Step) -> Applied {
        match step {
            Step::Note { ledger } => ledger::write(&self.store, ledger.as_ref()).map_err(boxed),
            Step::ProbePlugin { path, source, sha256, cni_version } => {
                let source = Source::Payload(source.clone());
                let contents = self.contents(&source, *sha256).map_err(boxed)?;
                expect(path, &contents, *sha256)?;
                let at = self.root.locate(path).map_err(boxed)?;
                let staged = disk::stage(&at, 0o755, &contents).map_err(boxed)?;
                let answer = self.ask_version(path, &staged);
                let removed = fs::remove_file(&staged);
                check(path, &answer.map_err(boxed)?.stdout, cni_version).map_err(boxed)?;
                removed.map_err(|source| {
                    boxed(ProbeError::Remove { path: staged_beside(path), source })
                })
            }
        }
    }

    /// Runs the staged plugin where it will run later: same directory, same mount options,
    /// the host's namespaces.
    ///
    /// On a scratch root it is run by the path that this process sees: VERSION touches
    /// nothing, and a tree that is no running system has no namespaces of its own.
    fn ask_version(&self, path: &str, staged: &Path) -> Result<Output, ProbeError> {
        let program = match self.tools {
            HostTools::OfInit => staged_beside(path),
            HostTools::Here | HostTools::Scratch => staged.to_string_lossy().into_owned(),
        };
        let input = r#"{"cniVersion":"1.0.0"}"#;
        let ask = || {
            let output = self.tools.run_fed(&[&program], &ENVIRONMENT, input, LIMIT)?;
            judge(&program, output)
        };
        while_busy(ask).map_err(|source| ProbeError::Run { path: path.to_owned(), source })
    }
}

/// A plugin tells its errors on standard output.
fn judge(program: &str, output: Output) -> Result<Output, CommandError> {
    if output.status.success() {
        return Ok(output);
    }
    let told = if output.stderr.trim().is_empty() { &output.stdout } else { &output.stderr };
    let told = told.trim().chars().take(1024).collect();
    Err(CommandError::Failed { command: program.to_owned(), status: output.status, output: told })
}

/// Whether an answer to VERSION is one, and names the wanted version.
fn check(path: &str, answer: &str, wanted: &str) -> Result<(), ProbeError> {
    let parsed: Option<Value> = serde_json::from_str(answer).ok();
    let supported = parsed.as_ref().and_then(|answer| answer.get("supportedVersions")?.as_array());
    let Some(supported) = supported else {
        let answer = answer.trim().chars().take(200).collect();
        return Err(ProbeError::Answer { path: path.to_owned(), answer });
    };
    let supported: Vec<&str> = supported.iter().filter_map(Value::as_str).collect();
    if supported.contains(&wanted) {
        return Ok(());
    }
    let (path, wanted) = (path.to_owned(), wanted.to_owned());
    Err(ProbeError::Unsupported { path, supported: supported.join(", "), wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_the_version() {
        let good = r#"{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}"#;
        check("/nsx", good, "1.0.0").unwrap();
        let error = check("/nsx", good, "1.1.0").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the payload's plugin for /nsx supports CNI 0.4.0, 1.0.0, not 1.1.0"
        );
    }

    #[test]
    fn another_answer_is_none() {
        for bad in ["", "usage: nsx", "{}", r#"{"supportedVersions":"1.0.0"}"#] {
            let error = check("/nsx", bad, "1.0.0").unwrap_err();
            assert!(error.to_string().contains("no answer"), "{error}");
            assert_eq!((error.reason(), error.is_transient()), ("PluginProbeFailed", false));
        }
    }
}

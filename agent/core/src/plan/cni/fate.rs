//! File by file: what a plan does with it, and why.

use super::places::{Places, installed_version};
use super::{Target, Toward, Want};
use crate::model::{FileState, Observed};
use crate::payload::{CniFile, CniRole};
use crate::plan::file::Source;
use crate::plan::{Plan, Step, file};
use crate::version::Version;
use serde::Serialize;

/// What becomes of one CNI file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// On the host.
    pub path: String,
    /// `write`, `remove` or `leave`.
    pub action: &'static str,
    /// In plain words.
    pub why: String,
}

/// The fates of all CNI files under a plan for `want`. A plan of a checkpoint tells by its steps.
pub fn fates(want: &Want, observed: &Observed, plan: &Plan) -> Vec<Fate> {
    let places = Places::of(&want.paths);
    let fate = |path: &str| {
        let step = plan.steps().find_map(|step| {
            let Step::File(
                step @ (file::Step::Write { path: at, .. } | file::Step::Remove { path: at, .. }),
            ) = step
            else {
                return None;
            };
            (at == path).then_some(step)
        });
        let there = observed.files.get(path);
        let action = match step {
            Some(file::Step::Write { .. }) => "write",
            Some(_) => "remove",
            None => "leave",
        };
        let why = match want.target {
            Target::To(Toward::Payload) => toward_payload(&places, path, observed, step),
            Target::To(Toward::Absent) | Target::Before(_) => back(path, observed, step),
        };
        // what is neither there nor coming is not worth a line
        (step.is_some() || there.is_some()).then(|| Fate { path: path.to_owned(), action, why })
    };
    places.all().into_iter().filter_map(fate).collect()
}

fn toward_payload(
    places: &Places,
    path: &str,
    observed: &Observed,
    step: Option<&file::Step>,
) -> String {
    let role = [CniRole::Nsx, CniRole::Loopback, CniRole::Conflist, CniRole::LoopbackConf]
        .into_iter()
        .find(|role| places.of_role(*role) == path);
    let cni = observed.payload.as_ref().and_then(|payload| payload.manifest.cni.as_ref());
    let file = role.and_then(|role| cni?.files.get(&role));
    let ours = cni.map_or("", |cni| cni.version.as_str());
    let installed = installed_version(observed, places);
    match (step, observed.files.get(path)) {
        (Some(file::Step::Remove { .. }), _) => {
            "10-nsx.conflist takes its place, and would sort after it".into()
        }
        (Some(_), None) => "it is not there".into(),
        (Some(file::Step::Write { source: Source::Inline(_), .. }), Some(_)) => {
            format!("becomes the payload's {ours} with what was changed by hand")
        }
        (Some(_), Some(FileState::Regular { mode, sha256, .. }))
            if file.is_some_and(|file| file.sha256 == *sha256) =>
        {
            let wanted = file.and_then(CniFile::mode_bits).unwrap_or_default();
            format!("its mode is {mode:04o} instead of {wanted:04o}")
        }
        (Some(_), Some(_)) => match installed.map(ToString::to_string) {
            Some(version) if Version::parse(ours).is_ok_and(|v| Some(&v) == installed) => {
                format!("it is not what version {version} brings")
            }
            Some(version) => format!("version {version} becomes {ours}"),
            None => format!("no version is installed, and {ours} is to be"),
        },
        (None, Some(_)) if path == places.loopback || path == places.loopback_conf => {
            "it is there, and is not overwritten".into()
        }
        (None, Some(FileState::Regular { sha256, .. }))
            if file.is_some_and(|file| file.sha256 == *sha256) =>
        {
            "it is the payload's".into()
        }
        (None, Some(_)) => match installed {
            Some(version) if Version::parse(ours).is_ok_and(|ours| *version > ours) => {
                format!("version {version} is newer than {ours}")
            }
            _ => "it was changed by hand".into(),
        },
        (None, None) => String::new(),
    }
}

fn back(path: &str, observed: &Observed, step: Option<&file::Step>) -> String {
    let owned = observed.cni.ledger.as_ref().and_then(|ledger| ledger.files.get(path));
    match (step, owned) {
        (Some(file::Step::Remove { .. }), _) => "it was not there before".into(),
        (Some(_), _) => "it was there before".into(),
        (None, None) => "it is not Pointsman's".into(),
        (None, Some(_)) => "see the notes".into(),
    }
}

//! What the conflist is to hold: the payload's, or that and what the user has changed.

use super::merge::merge;
use super::offer::New;
use super::places::Places;
use crate::model::{CniReading, Digest, FileState, Observed};
use crate::plan::file::Source;
use serde_json::Value;

/// What the conflist is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// What it holds.
    AsItIs,
    /// What the payload brings.
    Payload,
    /// That, with what the user has changed.
    Merged(String),
}

impl Content {
    pub(super) fn source(&self, new: &New<'_>) -> (Source, Digest) {
        match self {
            Self::Merged(text) => (Source::Inline(text.clone()), Digest::of(text.as_bytes())),
            Self::AsItIs | Self::Payload => {
                (Source::Payload(new.conflist.path.clone()), new.conflist.sha256)
            }
        }
    }

    /// `cniVersion` of what will be there.
    pub(super) fn cni_version(
        &self,
        places: &Places,
        observed: &Observed,
        new: &New<'_>,
    ) -> String {
        let merged;
        let reading = match self {
            Self::Payload => None,
            Self::Merged(text) => {
                merged = CniReading::of(text.as_bytes());
                merged.config()
            }
            Self::AsItIs => observed
                .files
                .get(&places.conflist)
                .and_then(FileState::sha256)
                .and_then(|sha256| observed.cni.readings.get(&sha256)?.config()),
        };
        reading.unwrap_or(new.config).cni_version().to_owned()
    }
}

/// The content for a configuration that is ours, of an older version (`replace`) or of the
/// payload's. Without the text that was written last nobody can tell the user's changes: those to
/// an older version go, and those to the same version stay.
pub(super) fn content(
    places: &Places,
    observed: &Observed,
    new: &New<'_>,
    replace: bool,
    notes: &mut Vec<String>,
) -> Content {
    let path = &places.conflist;
    let present = observed.files.get(path).and_then(FileState::sha256);
    if present == Some(new.conflist.sha256) {
        return Content::Payload;
    }
    let base = observed.cni.ledger.as_ref().and_then(|ledger| ledger.base.as_deref());
    let theirs = present.and_then(|sha256| observed.cni.texts.get(&sha256));
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok();
    let sides = base.and_then(parse).zip(theirs.and_then(|text| parse(text))).zip(parse(new.text));
    let Some(((base, theirs), ours)) = sides else {
        if replace {
            return Content::Payload;
        }
        notes.push(format!(
            "HandEdited: {path} has the payload's version {} and other contents: it is left as it is",
            new.version
        ));
        return Content::AsItIs;
    };
    let merged = merge(&base, &theirs, &ours);
    if !merged.kept.is_empty() {
        notes.push(format!(
            "HandEdited: {path} keeps what was changed by hand: {}",
            merged.kept.join(", ")
        ));
    }
    if !merged.conflicts.is_empty() {
        notes.push(format!(
            "EditOverruled: {path} was changed by hand where the payload's changes too, and becomes \
             the payload's there; a copy is kept: {}",
            merged.conflicts.join(", ")
        ));
    }
    if merged.value == theirs {
        return Content::AsItIs;
    }
    if merged.value == ours {
        return Content::Payload;
    }
    let text = serde_json::to_string_pretty(&merged.value).unwrap_or_default();
    Content::Merged(format!("{text}\n"))
}

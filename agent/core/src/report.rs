//! What the agent says of itself, in words that a person and a script share.

use crate::kernels::Why;
use crate::keys::{self, Annotations};
use crate::model::ModuleState;
use crate::phase::Phase;
use crate::plan::handover::Owner;
use crate::request::{ProfileId, Wanted, verbatim};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest `message`, bytes.
pub const MESSAGE_LIMIT: usize = 1024;
/// Longest `observed`, bytes. No valid request comes near; one that is longer is cut,
/// and so never counts as answered, lest all annotations together outgrow what the
/// API server stores (256 KiB) and nothing could be reported at all.
pub const OBSERVED_LIMIT: usize = 1024;

/// The node's state, annotation `pointsman.io/state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The profile is verified on this boot.
    Done,
    /// Nothing changed; waiting.
    Pending,
    /// In a switch.
    Working,
    /// The disk holds the new module set, memory the old.
    RebootRequired,
    /// It failed; the old profile is verified back.
    RolledBack,
    /// The request is invalid for this node; nothing was changed.
    Refused,
    /// Neither profile is verified: a person is needed.
    Degraded,
}

/// Annotation `pointsman.io/ovs-module`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OvsModule {
    /// Of the files.
    pub origin: ModuleState,
    /// Build id of the loaded module, hexadecimal; none while none is loaded.
    pub loaded: Option<String>,
}

/// All that the agent says at one time.
///
/// Its written form always has the same keys, [`keys::AGENT_KEYS`]; what is not known is
/// empty. So nothing stale can outlive a report by being left out of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The request that this answers, as [`verbatim`] gives it.
    pub observed: String,
    /// Verified on this boot; none while none is.
    pub current_profile: Option<ProfileId>,
    /// The one before.
    pub previous_profile: Option<ProfileId>,
    /// How it stands.
    pub state: State,
    /// While Working.
    pub phase: Option<Phase>,
    /// A stable `CamelCase` word.
    pub reason: String,
    /// One plain sentence that names the file, device or pod and what to do.
    pub message: String,
    /// `/proc/sys/kernel/random/boot_id` of this boot.
    pub boot_id: String,
    /// RFC 3339; see [`Report::keep_transition_time`].
    pub transition_time: String,
    /// Of the agent.
    pub agent_version: String,
    /// None before the first look.
    pub ovs_module: Option<OvsModule>,
    /// None while neither holds all of them.
    pub address_owner: Option<Owner>,
    /// `nsxBuildVersion` on disk; none where nothing is installed.
    pub cni_version: Option<String>,
    /// Bytes; none where there is no uplink.
    pub uplink_mtu: Option<u32>,
    /// [`crate::kernels::Kernels::annotation`]; empty before the first look.
    pub kernels: String,
    /// What an Event is to tell beside the state; no annotation.
    #[serde(skip)]
    pub warning: Option<Why>,
}

impl Report {
    /// The report as the agent's annotations.
    pub fn annotations(&self) -> Annotations {
        fn text<T: fmt::Display>(value: Option<&T>) -> String {
            value.map(ToString::to_string).unwrap_or_default()
        }
        [
            (keys::OBSERVED, cut(&self.observed, OBSERVED_LIMIT)),
            (keys::CURRENT_PROFILE, text(self.current_profile.as_ref())),
            (keys::PREVIOUS_PROFILE, text(self.previous_profile.as_ref())),
            (keys::STATE, self.state.to_string()),
            (keys::PHASE, text(self.phase.as_ref())),
            (keys::REASON, self.reason.clone()),
            (keys::MESSAGE, sentence(&self.message)),
            (keys::BOOT_ID, self.boot_id.clone()),
            (keys::TRANSITION_TIME, self.transition_time.clone()),
            (keys::AGENT_VERSION, self.agent_version.clone()),
            (keys::OVS_MODULE, text(self.ovs_module.as_ref())),
            (keys::ADDRESS_OWNER, text(self.address_owner.as_ref())),
            (keys::CNI_VERSION, text(self.cni_version.as_ref())),
            (keys::UPLINK_MTU, text(self.uplink_mtu.as_ref())),
            (keys::KERNELS, self.kernels.clone()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    /// Takes over the time of the transition from what is on the Node, where this report
    /// tells of no other one: a restarted agent that finds all as it was writes nothing.
    pub fn keep_transition_time(&mut self, on_node: &Annotations) {
        let mine = self.annotations();
        let decisive = [keys::OBSERVED, keys::STATE, keys::PHASE, keys::REASON, keys::BOOT_ID];
        if decisive.iter().all(|key| mine.get(*key) == on_node.get(*key))
            && let Some(time) = on_node.get(keys::TRANSITION_TIME).filter(|time| !time.is_empty())
        {
            self.transition_time.clone_from(time);
        }
    }
}

/// Whether a Node's report answers its present request and speaks of its present boot.
///
/// `node_boot_id` is the Node's `.status.nodeInfo.bootID`.
pub fn fresh(annotations: &Annotations, node_boot_id: &str) -> bool {
    annotations.get(keys::OBSERVED) == Some(&verbatim(annotations))
        && !node_boot_id.is_empty()
        && annotations.get(keys::BOOT_ID).is_some_and(|id| id == node_boot_id)
}

/// Whether a Node is verified to be in the profile that it was asked for. By content
/// where the request pins one; by name only where it does not. Never without a request.
///
/// `node_boot_id` is the Node's `.status.nodeInfo.bootID`.
pub fn succeeded(annotations: &Annotations, node_boot_id: &str) -> bool {
    let wanted = annotations.get(keys::DESIRED_PROFILE).and_then(|text| Wanted::parse(text).ok());
    let current = annotations.get(keys::CURRENT_PROFILE).and_then(|text| ProfileId::parse(text));
    let (Some(wanted), Some(current)) = (wanted, current) else { return false };
    fresh(annotations, node_boot_id)
        && annotations.get(keys::STATE).is_some_and(|state| *state == State::Done.to_string())
        && wanted.is_met_by(&current)
}

/// At most `limit` bytes, whole characters, the cut marked.
fn cut(text: &str, limit: usize) -> String {
    const MARK: char = '…';
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(MARK.len_utf8());
    let mut kept: String = text
        .char_indices()
        .take_while(|(at, c)| at + c.len_utf8() <= room)
        .map(|(_, c)| c)
        .collect();
    kept.push(MARK);
    kept
}

/// On one line, within [`MESSAGE_LIMIT`].
fn sentence(text: &str) -> String {
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    cut(&words.join(" "), MESSAGE_LIMIT)
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for OvsModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.origin.word())?;
        match &self.loaded {
            Some(build_id) => write!(f, "@{build_id}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bridge => "bridge",
            Self::Uplink => "uplink",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn report() -> Report {
        Report {
            observed: "nsx-ovs;retry=2".into(),
            current_profile: Some(ProfileId {
                name: "nsx-ovs".into(),
                content: Digest::of(b"abc"),
            }),
            previous_profile: None,
            state: State::Done,
            phase: None,
            reason: "Verified".into(),
            message: "all is as wanted".into(),
            boot_id: "boot-1".into(),
            transition_time: "2026-01-02T03:04:05Z".into(),
            agent_version: "0.1.0".into(),
            ovs_module: Some(OvsModule {
                origin: ModuleState::InTree,
                loaded: Some("00ff".into()),
            }),
            address_owner: Some(Owner::Bridge),
            cni_version: Some("4.1.2".into()),
            uplink_mtu: Some(1500),
            kernels: "6.1.0 ready=both set=nsx boot=running".into(),
            warning: None,
        }
    }

    /// A Node that asks for what [`report`] answers.
    fn node(desired: &str) -> Annotations {
        let mut annotations = report().annotations();
        annotations.insert(keys::DESIRED_PROFILE.into(), desired.into());
        annotations.insert(keys::RETRY.into(), "2".into());
        annotations.insert(keys::OBSERVED.into(), format!("{desired};retry=2"));
        annotations
    }

    #[test]
    fn every_key_is_written_and_no_other() {
        let mut expected = keys::AGENT_KEYS.map(str::to_owned);
        expected.sort();
        let mut empty = report();
        empty.current_profile = None;
        empty.ovs_module = None;
        empty.address_owner = None;
        empty.cni_version = None;
        empty.uplink_mtu = None;
        for report in [report(), empty] {
            assert!(report.annotations().into_keys().eq(expected.iter().cloned()));
        }
        assert!(keys::AGENT_KEYS.iter().all(|key| key.starts_with(keys::PREFIX)));
    }

    #[test]
    fn values_read_as_documented() {
        let annotations = report().annotations();
        let content = Digest::of(b"abc");
        for (key, value) in [
            (keys::CURRENT_PROFILE, format!("nsx-ovs@sha256:{content}").as_str()),
            (keys::PREVIOUS_PROFILE, ""),
            (keys::STATE, "Done"),
            (keys::PHASE, ""),
            (keys::OVS_MODULE, "in-tree@00ff"),
            (keys::ADDRESS_OWNER, "bridge"),
            (keys::UPLINK_MTU, "1500"),
        ] {
            assert_eq!(annotations[key], value, "{key}");
        }
    }

    #[test]
    fn a_message_is_one_line_of_whole_characters() {
        let mut report = report();
        report.message = " a\n\tb\u{0}c ".into();
        assert_eq!(report.annotations()[keys::MESSAGE], "a b c");
        for filler in ["x", "é", "漢", "🦀"] {
            for shift in 0..4 {
                report.message = "y".repeat(shift) + &filler.repeat(2000);
                let message = &report.annotations()[keys::MESSAGE];
                assert!(message.len() <= MESSAGE_LIMIT, "{}", message.len());
                assert!(message.len() > MESSAGE_LIMIT - 8, "{}", message.len());
                assert!(message.ends_with(&format!("{filler}…")), "{message}");
            }
        }
        report.message = "z".repeat(MESSAGE_LIMIT);
        assert_eq!(report.annotations()[keys::MESSAGE], report.message);
    }

    #[test]
    fn a_huge_request_is_answered_but_never_freshly() {
        let mut report = report();
        report.observed = "q".repeat(200_000);
        let mut annotations = report.annotations();
        assert!(annotations[keys::OBSERVED].len() <= OBSERVED_LIMIT);
        annotations.insert(keys::DESIRED_PROFILE.into(), report.observed);
        assert!(!fresh(&annotations, "boot-1"));
    }

    #[test]
    fn freshness_is_the_same_request_and_the_same_boot() {
        let answered = node("nsx-ovs");
        assert!(fresh(&answered, "boot-1"));
        assert!(!fresh(&answered, "boot-2"));
        for key in [keys::OBSERVED, keys::BOOT_ID, keys::DESIRED_PROFILE, keys::RETRY] {
            let mut less = answered.clone();
            less.remove(key);
            assert!(!fresh(&less, "boot-1"), "{key}");
        }
        let mut again = answered.clone();
        again.insert(keys::RETRY.into(), "3".into());
        assert!(!fresh(&again, "boot-1"));
        let mut no_boot = answered;
        no_boot.insert(keys::BOOT_ID.into(), String::new());
        assert!(!fresh(&no_boot, ""));
        assert!(!fresh(&Annotations::new(), "boot-1"));
    }

    #[test]
    fn success_is_the_profile_asked_for() {
        let content = Digest::of(b"abc").to_string();
        let pinned = format!("nsx-ovs@sha256:{}", content.get(..12).unwrap());
        for desired in ["nsx-ovs", &pinned, &format!("nsx-ovs@sha256:{content}")] {
            assert!(succeeded(&node(desired), "boot-1"), "{desired}");
            assert!(!succeeded(&node(desired), "boot-2"), "{desired}");
        }
        for desired in ["other", "nsx-ovs@sha256:000000000000", "nsx-ovs@sha256:"] {
            assert!(!succeeded(&node(desired), "boot-1"), "{desired}");
        }
        for (key, value) in [
            (keys::STATE, "Working"),
            (keys::STATE, "RolledBack"),
            (keys::CURRENT_PROFILE, ""),
            (keys::CURRENT_PROFILE, "nsx-ovs"),
        ] {
            let mut other = node("nsx-ovs");
            other.insert(key.into(), value.into());
            assert!(!succeeded(&other, "boot-1"), "{key}={value}");
        }
        let mut unasked = report().annotations();
        unasked.insert(keys::OBSERVED.into(), String::new());
        assert!(fresh(&unasked, "boot-1") && !succeeded(&unasked, "boot-1"));
    }

    #[test]
    fn time_moves_with_transitions_only() {
        let on_node = report().annotations();
        let mut later = report();
        later.transition_time = "2026-02-02T00:00:00Z".into();
        later.uplink_mtu = Some(9000);
        later.keep_transition_time(&on_node);
        assert_eq!(later.transition_time, "2026-01-02T03:04:05Z");
        let mut other = report();
        other.transition_time = "2026-02-02T00:00:00Z".into();
        other.boot_id = "boot-2".into();
        other.keep_transition_time(&on_node);
        assert_eq!(other.transition_time, "2026-02-02T00:00:00Z");
        other.keep_transition_time(&Annotations::new());
        assert_eq!(other.transition_time, "2026-02-02T00:00:00Z");
    }
}

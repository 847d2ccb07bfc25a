use super::client::NodeMeta;
use kube::ResourceExt;
use pointsman_core::keys::{AGENT_KEYS, Annotations, PREFIX};
use tokio::sync::watch;

/// The Node at one moment, as far as it concerns this agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Differs where a Node of the same name was created again.
    pub uid: String,
    /// Those under `pointsman.io/`, the operator's and the agent's.
    pub annotations: Annotations,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
}

impl Seen {
    pub(super) fn of(node: &NodeMeta) -> Self {
        let annotations = node.annotations().iter().filter(|(key, _)| key.starts_with(PREFIX));
        Self {
            uid: node.uid().unwrap_or_default(),
            annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
            resource_version: node.resource_version().unwrap_or_default(),
        }
    }

    /// Versions of one resource may be compared as numbers (KEP-5504; true of every
    /// API server on etcd). Where one is no number, what came last is the later one.
    fn is_older_than(&self, other: &Self) -> bool {
        let number = |seen: &Self| seen.resource_version.parse::<u128>().ok();
        matches!((number(self), number(other)), (Some(mine), Some(theirs)) if mine < theirs)
    }

    /// What the operator says; the agent's own words are left out.
    fn asked(&self) -> Annotations {
        let foreign =
            self.annotations.iter().filter(|(key, _)| !AGENT_KEYS.contains(&key.as_str()));
        foreign.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// The latest knowledge of the Node, from the watch and from answers to writes; none
/// before the first look and while there is no such Node.
#[derive(Clone, Debug)]
pub(super) struct Sight(watch::Sender<Option<Seen>>);

impl Default for Sight {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Sight {
    /// A consistent read: the truth, whatever was known.
    pub(super) fn set(&self, seen: Option<Seen>) {
        self.update(|_| Some(seen));
    }

    /// A watch event. The echo of a write whose answer came first changes nothing.
    pub(super) fn heard(&self, seen: Seen) {
        self.update(|known| match known {
            Some(known) if known.uid == seen.uid && seen.is_older_than(known) => None,
            Some(_) | None => Some(Some(seen)),
        });
    }

    /// An answer to a write, which may come after the Node's end.
    pub(super) fn answered(&self, seen: Seen) {
        self.update(|known| match known {
            Some(known) if known.uid == seen.uid && !seen.is_older_than(known) => Some(Some(seen)),
            Some(_) | None => None,
        });
    }

    fn update(&self, choose: impl FnOnce(Option<&Seen>) -> Option<Option<Seen>>) {
        self.0.send_if_modified(|known| {
            let Some(next) = choose(known.as_ref()) else { return false };
            // the version moves with every heartbeat of the kubelet: nobody's news
            let news = match (known.as_ref(), next.as_ref()) {
                (Some(old), Some(new)) => old.uid != new.uid || old.annotations != new.annotations,
                (old, new) => old.is_some() != new.is_some(),
            };
            *known = next;
            news
        });
    }

    /// Whether the Node of this uid shows all of these annotations.
    pub(super) fn shows(&self, uid: &str, ours: &Annotations) -> bool {
        self.0.borrow().as_ref().is_some_and(|seen| {
            seen.uid == uid
                && ours.iter().all(|(key, value)| seen.annotations.get(key) == Some(value))
        })
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Seen>> {
        self.0.subscribe()
    }

    pub(super) fn requests(&self) -> Requests {
        let mut latest = self.0.subscribe();
        latest.mark_changed();
        Requests { latest, told: None }
    }
}

/// What the Node asks for, as it changes. The latest wins: what was superseded before
/// anybody looked is never seen.
#[derive(Clone, Debug)]
pub struct Requests {
    latest: watch::Receiver<Option<Seen>>,
    told: Option<(String, Annotations)>,
}

impl Requests {
    /// The Node at the first look, and then whenever it is another Node or the operator
    /// has written something; the agent's own annotations do not count. None once the
    /// [`super::Node`] was dropped. Cancel-safe.
    pub async fn next(&mut self) -> Option<Seen> {
        loop {
            self.latest.changed().await.ok()?;
            let Some(seen) = self.latest.borrow_and_update().clone() else { continue };
            let now = Some((seen.uid.clone(), seen.asked()));
            if self.told != now {
                self.told = now;
                return Some(seen);
            }
        }
    }

    /// The Node as last seen; none before the first look and while there is no such Node.
    pub fn latest(&self) -> Option<Seen> {
        self.latest.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_core::keys::{DESIRED_PROFILE, STATE};

    fn seen(uid: &str, version: &str, pairs: &[(&str, &str)]) -> Seen {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Seen {
            uid: uid.into(),
            annotations: pairs.iter().map(own).collect(),
            resource_version: version.into(),
        }
    }

    #[test]
    fn an_old_echo_does_not_undo_an_answer() {
        let sight = Sight::default();
        sight.set(Some(seen("u", "9", &[])));
        sight.answered(seen("u", "11", &[(STATE, "Done")]));
        sight.heard(seen("u", "10", &[]));
        assert!(sight.shows("u", &seen("", "", &[(STATE, "Done")]).annotations));
        sight.heard(seen("u", "12", &[]));
        assert!(!sight.shows("u", &seen("", "", &[(STATE, "Done")]).annotations));
    }

    #[test]
    fn a_restored_store_counts_from_less() {
        let sight = Sight::default();
        sight.set(Some(seen("u", "1000", &[])));
        sight.set(Some(seen("u", "7", &[(STATE, "Done")])));
        assert!(sight.shows("u", &seen("", "", &[(STATE, "Done")]).annotations));
    }

    #[test]
    fn an_answer_about_a_former_node_is_not_believed() {
        let sight = Sight::default();
        sight.set(Some(seen("new", "5", &[])));
        sight.answered(seen("old", "6", &[(STATE, "Done")]));
        assert_eq!(sight.requests().latest(), Some(seen("new", "5", &[])));
        sight.set(None);
        sight.answered(seen("new", "7", &[]));
        assert_eq!(sight.requests().latest(), None);
    }

    #[tokio::test]
    async fn only_the_operator_is_news() {
        let sight = Sight::default();
        let mut requests = sight.requests();
        sight.set(Some(seen("u", "1", &[])));
        assert_eq!(requests.next().await.unwrap().resource_version, "1");
        sight.heard(seen("u", "2", &[(STATE, "Done")]));
        sight.heard(seen("u", "3", &[(STATE, "Done"), (DESIRED_PROFILE, "a")]));
        sight.heard(seen("u", "4", &[(STATE, "Done"), (DESIRED_PROFILE, "b")]));
        let next = requests.next().await.unwrap();
        assert_eq!(next.annotations.get(DESIRED_PROFILE).map(String::as_str), Some("b"));
        sight.set(None);
        sight.heard(seen("v", "9", &[(DESIRED_PROFILE, "b")]));
        assert_eq!(requests.next().await.unwrap().uid, "v");
        sight.heard(seen("v", "10", &[(DESIRED_PROFILE, "b"), (STATE, "Working")]));
        let silence = tokio::time::timeout(std::time::Duration::from_millis(200), requests.next());
        assert!(silence.await.is_err());
    }
}

//! When to take the addresses from a bridge whose Open vSwitch is lost, and when to give them back.
//!
//! A restart of a daemon or a package upgrade is no emergency while packets flow: a kernel
//! datapath forwards by the flows it has. So two witnesses must agree, what Open vSwitch
//! is and what the gateway says, and for as long as the grace. And a bridge that was lost
//! gets the addresses back only when Open vSwitch has been well for a while, a longer
//! one after each loss, so that nothing flaps.

use std::fmt;
use std::time::Duration;

/// How long Open vSwitch must have been well before the addresses return to it.
const HOLD: Duration = Duration::from_secs(10);
/// The longest such time.
const LONGEST_HOLD: Duration = Duration::from_secs(600);
/// A bridge that served this long after a return has proven itself: the hold starts anew.
const PROVEN: Duration = Duration::from_secs(1800);

/// What is wrong with the bridge that owns the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The bridge's device is gone: its module was unloaded, the bridge was deleted.
    BridgeGone {
        /// Its name.
        bridge: String,
    },
    /// The uplink is no port of it any more.
    UplinkTakenOut {
        /// The uplink.
        uplink: String,
        /// The bridge.
        bridge: String,
    },
    /// No process of this name lives.
    DaemonGone {
        /// `ovs-vswitchd` or `ovsdb-server`.
        daemon: String,
    },
}

impl Loss {
    /// Whether packets cannot flow, whatever else is known: nobody has to be asked.
    fn is_certain(&self) -> bool {
        matches!(self, Self::BridgeGone { .. })
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BridgeGone { bridge } => write!(f, "the device {bridge} is gone"),
            Self::UplinkTakenOut { uplink, bridge } => {
                write!(f, "{uplink} is no port of {bridge} any more")
            }
            Self::DaemonGone { daemon } => write!(f, "no {daemon} runs"),
        }
    }
}

/// What the gateway says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateway {
    /// It answers out of the link that owns the addresses.
    Answers,
    /// It did, and does not.
    Silent,
    /// There is none, or it never answered: nothing can be learnt from it.
    Unknown,
}

/// One look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// What is wrong; none where all is well.
    pub loss: Option<Loss>,
    /// Asked only where something is wrong.
    pub gateway: Gateway,
}

/// What a look leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Wait,
    /// Take the addresses to the uplink.
    TakeToUplink(Loss),
    /// Open vSwitch has been well for long enough: take them back to the bridge.
    Return,
}

/// Where the guard is. Times are of any clock that does not go back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    grace: Duration,
    hold: Duration,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// The bridge owns the addresses; since when, if known, and since when it looks lost.
    OnBridge { since: Duration, lost: Option<Duration> },
    /// The uplink does; since when Open vSwitch looks well.
    OnUplink { well: Option<Duration> },
}

impl Guard {
    /// Over a bridge that owns the addresses now.
    pub fn new(grace: Duration, now: Duration) -> Self {
        Self { grace, hold: HOLD, state: State::OnBridge { since: now, lost: None } }
    }

    /// Over a bridge that lost them before this process began.
    pub fn after_loss(grace: Duration) -> Self {
        Self { grace, hold: HOLD, state: State::OnUplink { well: None } }
    }

    /// Whether the guard took the addresses away.
    pub fn is_away(&self) -> bool {
        matches!(self.state, State::OnUplink { .. })
    }

    /// How long Open vSwitch must be well before the addresses return.
    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// Takes one look into account.
    pub fn look(&mut self, now: Duration, sign: &Sign) -> Act {
        match &mut self.state {
            State::OnBridge { lost, .. } => {
                let Some(loss) = sign.loss.as_ref().filter(|loss| is_dark(loss, sign.gateway))
                else {
                    *lost = None;
                    return Act::Wait;
                };
                let first = *lost.get_or_insert(now);
                if now.saturating_sub(first) < self.grace {
                    return Act::Wait;
                }
                Act::TakeToUplink(loss.clone())
            }
            State::OnUplink { well } => {
                if sign.loss.is_some() {
                    *well = None;
                    return Act::Wait;
                }
                let first = *well.get_or_insert(now);
                if now.saturating_sub(first) < self.hold { Act::Wait } else { Act::Return }
            }
        }
    }

    /// The addresses are on the uplink.
    pub fn taken(&mut self, now: Duration) {
        if let State::OnBridge { since, .. } = self.state {
            let proven = now.saturating_sub(since) >= PROVEN;
            self.hold = if proven { HOLD } else { (self.hold * 2).min(LONGEST_HOLD) };
        }
        self.state = State::OnUplink { well: None };
    }

    /// The addresses are on the bridge.
    pub fn returned(&mut self, now: Duration) {
        self.state = State::OnBridge { since: now, lost: None };
    }

    /// The return failed: Open vSwitch has to prove itself anew, for longer.
    pub fn stayed(&mut self) {
        self.hold = (self.hold * 2).min(LONGEST_HOLD);
        self.state = State::OnUplink { well: None };
    }
}

/// Whether a loss means that packets do not flow.
fn is_dark(loss: &Loss, gateway: Gateway) -> bool {
    match gateway {
        Gateway::Answers => false,
        Gateway::Silent => true,
        // a daemon's end alone stops no packet, and who never had a gateway has no witness
        Gateway::Unknown => loss.is_certain() || matches!(loss, Loss::UplinkTakenOut { .. }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn daemon() -> Loss {
        Loss::DaemonGone { daemon: "ovs-vswitchd".into() }
    }

    fn sign(loss: Option<Loss>, gateway: Gateway) -> Sign {
        Sign { loss, gateway }
    }

    #[test]
    fn a_restart_while_packets_flow_is_no_emergency() {
        let mut guard = Guard::new(GRACE, at(0));
        for second in 1..60 {
            assert_eq!(guard.look(at(second), &sign(Some(daemon()), Gateway::Answers)), Act::Wait);
        }
    }

    #[test]
    fn a_silent_gateway_alone_is_the_networks_trouble_not_ours() {
        let mut guard = Guard::new(GRACE, at(0));
        for second in 1..60 {
            assert_eq!(guard.look(at(second), &sign(None, Gateway::Silent)), Act::Wait);
        }
    }

    #[test]
    fn both_for_the_grace_take_the_addresses_away_and_a_moment_does_not() {
        let mut guard = Guard::new(GRACE, at(0));
        let dark = sign(Some(daemon()), Gateway::Silent);
        assert_eq!(guard.look(at(1), &dark), Act::Wait);
        assert_eq!(guard.look(at(3), &dark), Act::Wait);
        // for a moment it is well: the grace begins anew
        assert_eq!(guard.look(at(4), &sign(None, Gateway::Unknown)), Act::Wait);
        assert_eq!(guard.look(at(5), &dark), Act::Wait);
        assert_eq!(guard.look(at(7), &dark), Act::Wait);
        assert_eq!(guard.look(at(8), &dark), Act::TakeToUplink(daemon()));
        // until it is done, it is asked for again and again
        assert_eq!(guard.look(at(9), &dark), Act::TakeToUplink(daemon()));
    }

    #[test]
    fn without_a_gateway_only_what_is_certainly_dark_counts() {
        let bridge = Loss::BridgeGone { bridge: "br-int".into() };
        let port = Loss::UplinkTakenOut { uplink: "eth1".into(), bridge: "br-int".into() };
        for (loss, acts) in [(bridge, true), (port, true), (daemon(), false)] {
            let mut guard = Guard::new(GRACE, at(0));
            guard.look(at(1), &sign(Some(loss.clone()), Gateway::Unknown));
            let act = guard.look(at(4), &sign(Some(loss.clone()), Gateway::Unknown));
            assert_eq!(act == Act::TakeToUplink(loss), acts);
        }
    }

    #[test]
    fn the_return_waits_for_health_that_lasts_and_longer_after_each_loss() {
        let mut guard = Guard::new(GRACE, at(0));
        let well = sign(None, Gateway::Unknown);
        let mut now = 10;
        let mut holds = Vec::new();
        for _ in 0..8 {
            guard.taken(at(now));
            assert!(guard.is_away());
            assert_eq!(guard.look(at(now), &well), Act::Wait);
            // a relapse begins the hold anew
            now += 5;
            assert_eq!(guard.look(at(now), &sign(Some(daemon()), Gateway::Unknown)), Act::Wait);
            let healthy = now + 1;
            now = healthy;
            while guard.look(at(now), &well) == Act::Wait {
                now += 1;
            }
            holds.push(now - healthy);
            guard.returned(at(now));
            now += 1;
        }
        assert_eq!(holds, [20, 40, 80, 160, 320, 600, 600, 600]);
        // half an hour of service is proof
        guard.taken(at(now + 1800));
        assert_eq!(guard.hold(), HOLD);
    }

    #[test]
    fn a_return_that_fails_is_not_tried_in_a_loop() {
        let mut guard = Guard::after_loss(GRACE);
        let well = sign(None, Gateway::Unknown);
        guard.look(at(0), &well);
        assert_eq!(guard.look(at(10), &well), Act::Return);
        guard.stayed();
        assert_eq!(guard.look(at(11), &well), Act::Wait);
        assert_eq!(guard.look(at(30), &well), Act::Wait);
        assert_eq!(guard.look(at(31), &well), Act::Return);
    }
}

//! Attributes that this version does not know: nobody can say whether a copy would mean the same.

use crate::model::Attribute;
use crate::plan::Refusal;
use std::fmt;

#[derive(Clone, Copy)]
pub(super) enum Noun {
    Address,
    Route,
    Rule,
    Nexthop,
}

impl Noun {
    /// What may be carried verbatim, of `if_addr.h`, `rtnetlink.h`, `fib_rules.h` and
    /// `nexthop.h` as of Linux 6.18: attributes of the object, not of one dump of it.
    fn known(self) -> &'static [u16] {
        match self {
            Self::Address => &[],
            // src, metrics, flow, via, newdst, pref, encap type, encap, expires, ttl, nh id
            Self::Route => &[2, 8, 11, 18, 19, 20, 21, 22, 23, 26, 30],
            // dst, src, goto, mark, flow, tunnel, suppressors, mask, l3mdev, uids, protocol,
            // ports, dscp, flow label, masks of these
            Self::Rule => {
                &[1, 2, 4, 10, 11, 12, 13, 14, 16, 19, 20, 22, 23, 24, 25, 26, 27, 28, 29, 30]
            }
            // group, its type, blackhole, encap type, encap, fdb, resilient group
            Self::Nexthop => &[2, 3, 4, 7, 8, 11, 12],
        }
    }
}

/// The first that is not known.
pub(super) fn attribute(noun: Noun, attributes: &[Attribute]) -> Option<u16> {
    let mut numbers = attributes.iter().map(Attribute::number);
    numbers.find(|number| !noun.known().contains(number))
}

pub(super) fn refuse(what: &dyn fmt::Display, number: u16) -> Refusal {
    Refusal::new(
        "AttributeUnknown",
        format!(
            "{what} has the netlink attribute {number}, which this version does not know, so it cannot say what a copy of it would mean; nothing was changed: remove it, or use a version that knows it"
        ),
    )
}

/// On the way back nothing is refused.
pub(super) fn left(what: &dyn fmt::Display, number: u16) -> String {
    format!("{what} stays as it is: its netlink attribute {number} is not known")
}

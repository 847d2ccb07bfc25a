//! Neighbour entries: the static ones are carried, the learnt ones copied so that nobody waits.
//! What a program has put there and marked as its own (`extern_learn`) is left to that program.

use super::{Case, Step};
use crate::model::{Neighbour, Network};
use std::collections::BTreeSet;

/// `NTF_EXT_LEARNED`.
const LEARNT_BY_A_PROGRAM: u8 = 0x10;

pub(super) struct Neighbours {
    pub(super) set: Vec<Step>,
    pub(super) delete: Vec<Step>,
    pub(super) notes: Vec<String>,
}

impl Neighbours {
    /// `traffic` says whether packets change their way; else learnt entries are of no use.
    pub(super) fn of(case: &Case<'_>, traffic: bool) -> Self {
        let now = &case.now.network;
        let mut wanted: Vec<Neighbour> = Vec::new();
        let mut known = BTreeSet::new();
        let there: BTreeSet<_> = now.neighbours.iter().map(key).collect();
        let sides = |network: &Network| -> Vec<Neighbour> {
            let of = |link: &str| {
                let mine = |neighbour: &&Neighbour| {
                    neighbour.link == link && neighbour.flags & LEARNT_BY_A_PROGRAM == 0
                };
                network.neighbours.iter().filter(mine).cloned().collect::<Vec<_>>()
            };
            [of(case.source), of(case.target)].concat()
        };
        // what a person set counts first; what was learnt is best known now
        let now_and_before = [case.before.map(sides).unwrap_or_default(), sides(now)];
        let [before, live] = &now_and_before;
        let fixed = before.iter().chain(live).filter(|neighbour| is_static(neighbour));
        let learnt = live.iter().chain(before).filter(|neighbour| !is_static(neighbour));
        for neighbour in fixed.chain(learnt.filter(|_| traffic)) {
            if !neighbour.ip.is_multicast() && known.insert((neighbour.ip, neighbour.proxy)) {
                wanted.push(Neighbour { link: case.target.to_owned(), ..neighbour.clone() });
            }
        }
        let set = wanted
            .into_iter()
            // an entry that is there may be stale, and its probe be answered on the other link
            .filter(|neighbour| !is_static(neighbour) || !there.contains(&key(neighbour)))
            .map(Step::SetNeighbour)
            .collect();
        let delete = now
            .neighbours
            .iter()
            .filter(|neighbour| neighbour.link == case.source && is_static(neighbour))
            .filter(|neighbour| neighbour.flags & LEARNT_BY_A_PROGRAM == 0)
            .map(|neighbour| Step::DeleteNeighbour(neighbour.clone()))
            .collect();
        let foreign = now.neighbours.iter().filter(|neighbour| {
            neighbour.link == case.source && neighbour.flags & LEARNT_BY_A_PROGRAM != 0
        });
        let notes = foreign.map(|neighbour| {
            format!(
                "the neighbour {neighbour} is not carried: a program has put it there as learnt, and keeps it itself"
            )
        });
        Self { set, delete, notes: notes.collect() }
    }
}

fn is_static(neighbour: &Neighbour) -> bool {
    neighbour.permanent || neighbour.proxy
}

/// All that tells one entry from another, and all that it says.
fn key(neighbour: &Neighbour) -> (&str, std::net::IpAddr, Option<&str>, [bool; 2], [u8; 2]) {
    let Neighbour { link, ip, mac, permanent, proxy, flags, protocol } = neighbour;
    (link, *ip, mac.as_deref(), [*permanent, *proxy], [*flags, *protocol])
}

//! Neighbour entries: the static ones are carried, the learnt ones copied so that nobody waits.

use super::{Case, Step};
use crate::model::{Neighbour, Network};

pub(super) struct Neighbours {
    pub(super) set: Vec<Step>,
    pub(super) delete: Vec<Step>,
}

impl Neighbours {
    /// `traffic` says whether packets change their way; else learnt entries are of no use.
    pub(super) fn of(case: &Case<'_>, traffic: bool) -> Self {
        let now = &case.now.network;
        let mut wanted: Vec<Neighbour> = Vec::new();
        let sides = |network: &Network| -> Vec<Neighbour> {
            let of = |link: &str| {
                let mine = |neighbour: &&Neighbour| neighbour.link == link;
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
            let known = wanted.iter().any(|known| same_key(known, neighbour));
            if !known && !neighbour.ip.is_multicast() {
                wanted.push(Neighbour { link: case.target.to_owned(), ..neighbour.clone() });
            }
        }
        let set = wanted
            .into_iter()
            // an entry that is there may be stale, and its probe be answered on the other link
            .filter(|neighbour| !is_static(neighbour) || !now.neighbours.contains(neighbour))
            .map(Step::SetNeighbour)
            .collect();
        let delete = now
            .neighbours
            .iter()
            .filter(|neighbour| neighbour.link == case.source && is_static(neighbour))
            .map(|neighbour| Step::DeleteNeighbour(neighbour.clone()))
            .collect();
        Self { set, delete }
    }
}

fn is_static(neighbour: &Neighbour) -> bool {
    neighbour.permanent || neighbour.proxy
}

fn same_key(a: &Neighbour, b: &Neighbour) -> bool {
    (a.ip, a.proxy) == (b.ip, b.proxy)
}

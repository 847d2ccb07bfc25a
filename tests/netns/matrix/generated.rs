//! Mixtures of rows, by a seed that a failure prints.

use super::rows::{BASE, ROWS};
use super::{BRIDGE, NIC, Node, Owner, Witness};

const SEEDS: u64 = 24;

/// George Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit
    }
}

/// A node with some rows, in some order; and what made it.
fn node(seed: u64) -> (Node, Random, String) {
    node_of(seed, Node::new())
}

fn node_of(seed: u64, node: Node) -> (Node, Random, String) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        random.below(2);
    }
    node.set_up(BASE);
    let mut rows: Vec<_> = ROWS.iter().filter(|_| random.below(3) == 0).collect();
    let mut names = vec![format!("seed {seed}")];
    while !rows.is_empty() {
        let (name, commands) = rows.swap_remove(random.below(rows.len()));
        // a route may use what comes later: then this row is without it
        node.set_up(commands);
        names.push((*name).to_owned());
    }
    (node, random, names.join(", "))
}

#[test]
fn there_and_back_is_where_it_was() {
    for seed in 0..SEEDS {
        let (mut node, _, names) = node(seed);
        node.there_and_back(&names);
    }
}

/// What began on the bridge goes home to it, and from an interruption to the uplink too.
#[test]
fn from_the_bridge_and_back_is_where_it_was() {
    for seed in SEEDS * 2..SEEDS * 3 {
        let (mut node, mut random, names) = node_of(seed, Node::on_bridge());
        let start = Witness::hear(BRIDGE);
        node.go(Owner::Uplink, None);
        start.confirm(&Witness::hear(NIC), &format!("{names}: on the uplink"));
        node.go(Owner::Bridge, None);
        start.confirm(&Witness::hear(BRIDGE), &format!("{names}: home"));

        let back = node.checkpoint();
        let plan = node.plan(Owner::Uplink, Some(&back));
        let steps = random.below(plan.steps().count() + 1);
        node.carry_out(&plan, steps);
        let to = if random.below(2) == 0 { Owner::Uplink } else { Owner::Bridge };
        node.go_back(to, &back);
        let owner = if to == Owner::Uplink { NIC } else { BRIDGE };
        start.confirm(&Witness::hear(owner), &format!("{names}: {to:?} after {steps} of\n{plan}"));
    }
}

/// Killed after any step, the way back leads to the checkpoint, and the way forth to the bridge.
#[test]
fn from_an_interruption_both_ends_are_reached() {
    for seed in SEEDS..SEEDS * 2 {
        let (mut node, mut random, names) = node(seed);
        let (start, back) = (Witness::hear(NIC), node.checkpoint());
        for _ in 0..3 {
            let plan = node.plan(Owner::Bridge, Some(&back));
            let steps = random.below(plan.steps().count() + 1);
            node.carry_out(&plan, steps);
            node.go_back(Owner::Uplink, &back);
            start.confirm(&Witness::hear(NIC), &format!("{names}: back after {steps} of\n{plan}"));
        }
        let plan = node.plan(Owner::Bridge, Some(&back));
        let steps = random.below(plan.steps().count() + 1);
        node.carry_out(&plan, steps);
        node.go(Owner::Bridge, Some(&back));
        start.confirm(&Witness::hear(BRIDGE), &format!("{names}: there after {steps} of\n{plan}"));
    }
}

//! `nf_tables`: batches that the kernel carries out whole, or not at all.
//!
//! The numbers are those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`; what is meant to
//! be a number is in network byte order there, what is compared with a packet is not.

mod expression;
pub mod shield;

use super::attribute::{self, Decoded};
use super::message::{NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN};
use super::message::{message, next_message, outcome, overrun, undecodable};
use super::{Connection, NetlinkError, Request};
use expression::Expression;
use netlink_sys::protocols::NETLINK_NETFILTER;

const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
/// `NFNL_SUBSYS_NFTABLES`: the upper byte of a message's type.
const NFTABLES: u16 = 10;
const NEWTABLE: u16 = NFTABLES << 8;
const GETTABLE: u16 = NEWTABLE + 1;
const DELTABLE: u16 = NEWTABLE + 2;
const NEWCHAIN: u16 = NEWTABLE + 3;
const NEWRULE: u16 = NEWTABLE + 6;

const NFPROTO_NETDEV: u8 = 5;
/// `struct nfgenmsg`.
const HEADER: usize = 4;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NF_NETDEV_INGRESS: u32 = 0;
const NF_ACCEPT: u32 = 1;

/// What becomes of a batch that the kernel finds nothing wrong with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    /// Nothing: a batch without its last message is validated and dropped. As `nft --check`.
    Drop,
}

/// Has the kernel look at all requests, and then carry out all or none.
fn transaction(requests: &[Request], end: End) -> Result<(), NetlinkError> {
    const BEGIN: u32 = 1;
    const FIRST: u32 = 2;
    let Some(Request { operation, .. }) = requests.first() else { return Ok(()) };
    let mut connection = Connection::open_for(NETLINK_NETFILTER)?;
    // the subsystem, in network byte order
    let whole_batch = [0, 0, 0, NFTABLES.to_be_bytes()[1]];
    let mut datagram = message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, BEGIN, &whole_batch);
    let mut sequence = FIRST;
    for request in requests {
        let flags = request.flags | NLM_F_REQUEST | NLM_F_ACK;
        datagram.extend(message(request.kind, flags, sequence, &request.body));
        sequence += 1;
    }
    if end == End::Commit {
        datagram.extend(message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, sequence, &whole_batch));
    }
    connection.send(&datagram)?;
    let (mut answered, mut failure) = (0, None);
    while answered < requests.len() {
        connection.receive(operation)?;
        let mut rest = connection.received();
        while let Some(message) = next_message(&mut rest, operation)? {
            match message.kind {
                NLMSG_NOOP => continue,
                NLMSG_OVERRUN => return Err(overrun(operation)),
                NLMSG_ERROR => {}
                _ => return Err(undecodable(operation, &message, "is no answer")),
            }
            if message.sequence == BEGIN {
                // of the batch as a whole; answers to its parts may never come then
                let refused = outcome(&message, operation)?;
                return Err(refused
                    .unwrap_or_else(|| undecodable(operation, &message, "nobody asked for it")));
            }
            let at = usize::try_from(message.sequence.wrapping_sub(FIRST)).ok();
            let Some(request) = at.and_then(|at| requests.get(at)) else {
                return Err(undecodable(operation, &message, "answers another request"));
            };
            // what fails first is the cause, the rest follows from it
            let failed = outcome(&message, &request.operation)?;
            failure = failure.or(failed);
            answered += 1;
        }
    }
    failure.map_or(Ok(()), Err)
}

/// The names of the tables of the `netdev` family.
fn tables() -> Result<Vec<String>, NetlinkError> {
    let mut connection = Connection::open_for(NETLINK_NETFILTER)?;
    let body = header();
    connection.dump("list the netdev tables", (GETTABLE, NEWTABLE), &body, |body| {
        let decoded = attribute::parse(body.get(HEADER..).unwrap_or_default())?;
        let name = decoded.iter().find(|attribute| attribute.kind() == NFTA_TABLE_NAME);
        name.map(attribute::Raw::text).transpose() as Decoded<Option<String>>
    })
}

fn header() -> Vec<u8> {
    vec![NFPROTO_NETDEV, 0, 0, 0]
}

fn push_text(message: &mut Vec<u8>, kind: u16, text: &str) {
    attribute::push(message, kind, format!("{text}\0").as_bytes());
}

fn push_number(message: &mut Vec<u8>, kind: u16, number: u32) {
    attribute::push(message, kind, &number.to_be_bytes());
}

fn push_nest(message: &mut Vec<u8>, kind: u16, nested: &[u8]) {
    attribute::push(message, kind | NLA_F_NESTED, nested);
}

fn new_table(table: &str) -> Request {
    let mut body = header();
    push_text(&mut body, NFTA_TABLE_NAME, table);
    let operation = format!("add the nftables table {table}");
    Request { operation, kind: NEWTABLE, flags: NLM_F_CREATE | NLM_F_EXCL, body }
}

fn delete_table(table: &str) -> Request {
    let mut body = header();
    push_text(&mut body, NFTA_TABLE_NAME, table);
    let operation = format!("delete the nftables table {table}");
    Request { operation, kind: DELTABLE, flags: 0, body }
}

/// A chain that sees what arrives on a device, or, without one, a chain that nothing enters.
fn new_chain(table: &str, chain: &str, device: Option<&str>) -> Request {
    let mut body = header();
    push_text(&mut body, NFTA_CHAIN_TABLE, table);
    push_text(&mut body, NFTA_CHAIN_NAME, chain);
    if let Some(device) = device {
        let mut hook = Vec::new();
        push_number(&mut hook, NFTA_HOOK_HOOKNUM, NF_NETDEV_INGRESS);
        push_number(&mut hook, NFTA_HOOK_PRIORITY, 0);
        push_text(&mut hook, NFTA_HOOK_DEV, device);
        push_nest(&mut body, NFTA_CHAIN_HOOK, &hook);
        push_number(&mut body, NFTA_CHAIN_POLICY, NF_ACCEPT);
        push_text(&mut body, NFTA_CHAIN_TYPE, "filter");
    }
    let on = device.map_or_else(String::new, |device| format!(" on {device}"));
    let operation = format!("add the nftables chain {chain}{on}");
    Request { operation, kind: NEWCHAIN, flags: NLM_F_CREATE | NLM_F_EXCL, body }
}

fn new_rule(table: &str, chain: &str, words: &str, expressions: &[Expression<'_>]) -> Request {
    let mut body = header();
    push_text(&mut body, NFTA_RULE_TABLE, table);
    push_text(&mut body, NFTA_RULE_CHAIN, chain);
    let all: Vec<u8> = expressions.iter().flat_map(Expression::encode).collect();
    push_nest(&mut body, NFTA_RULE_EXPRESSIONS, &all);
    let operation = format!("add the nftables rule \"{words}\"");
    Request { operation, kind: NEWRULE, flags: NLM_F_CREATE | NLM_F_APPEND, body }
}

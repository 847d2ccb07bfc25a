//! What two witnesses say of a node, so that before and after can be compared: names of the owner
//! by one word, time left by itself, link-local and learnt things left out.

use super::super::{ip, ip_json};
use super::raw::{self, Object};
use serde_json::Value;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Witness {
    /// `ip -j`, an object a line.
    ip: Vec<Object>,
    raw: Vec<Object>,
    at: Instant,
}

impl Witness {
    /// Asks both.
    pub fn hear(owner: &str) -> Self {
        let number = ip_json(&format!("link show dev {owner}"))[0]["ifindex"].as_u64().unwrap();
        settle(owner);
        let at = Instant::now();
        let raw = raw::objects((u32::try_from(number).unwrap(), owner));
        Self { ip: by_ip(owner), raw, at }
    }

    /// What is compared, without times.
    pub fn words(&self) -> Vec<&str> {
        self.ip.iter().chain(&self.raw).map(|object| object.words.as_str()).collect()
    }

    /// Fails where a later one says something else.
    #[track_caller]
    pub fn confirm(&self, later: &Self, what: &str) {
        assert!(self.raw.len() > 5 && self.ip.len() > 5, "{what}: {self:?}");
        for (before, after) in [(&self.ip, &later.ip), (&self.raw, &later.raw)] {
            let lacks = |of: &[Object], in_: &[Object]| -> Vec<String> {
                let words = |object: &&Object| in_.iter().all(|other| other.words != object.words);
                of.iter().filter(words).map(|object| object.words.clone()).collect()
            };
            let (lost, more) = (lacks(before, after), lacks(after, before));
            assert!(lost.is_empty() && more.is_empty(), "{what}: lost {lost:#?}, more {more:#?}");
            let words = |all: &[Object]| -> Vec<String> {
                all.iter().map(|object| object.words.clone()).collect()
            };
            assert_eq!(words(before), words(after), "{what}: in another order");
            // time runs down, and a copy may be rounded up to whole seconds twice
            let passed = u32::try_from((later.at - self.at).as_secs()).unwrap() + 2;
            for (before, after) in before.iter().zip(after) {
                for (had, has) in before.seconds.iter().zip(&after.seconds) {
                    let fits = has <= &had.saturating_add(2) && had.saturating_sub(*has) <= passed;
                    assert!(fits, "{what}: {} had {had} s, has {has} s", before.words);
                }
            }
        }
    }
}

/// The kernel makes the routes of an IPv6 address, and to its peer, a moment after it.
fn settle(owner: &str) {
    let shown = ip_json(&format!("-6 address show dev {owner}"));
    let addresses = shown[0]["addr_info"].as_array().cloned().unwrap_or_default();
    let ends = ["local", "address"];
    let ends: Vec<&str> =
        addresses.iter().flat_map(|a| ends.iter().filter_map(|end| a[end].as_str())).collect();
    let began = Instant::now();
    loop {
        let routes = ip(&format!("-6 route show table all dev {owner}"));
        let has = |end: &&str| routes.split_whitespace().any(|word| word == *end);
        if ends.iter().all(has) {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{ends:?} are not all in {routes}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn by_ip(owner: &str) -> Vec<Object> {
    let shown = ip_json(&format!("-d address show dev {owner}"));
    let carried =
        |a: &&Value| a["family"] == "inet" || (a["scope"] != "link" && a["temporary"] != true);
    let addresses = shown[0]["addr_info"].as_array().unwrap().iter().filter(carried);
    let mut found: Vec<Object> = addresses.map(|a| object("address", a, owner)).collect();
    for family in ["-4", "-6"] {
        found.extend(list(&format!("{family} -d rule show"), "rule", owner));
    }
    let mut unordered = Vec::new();
    for (what, command) in [
        ("route", "-4 -d route show table all"),
        ("route6", "-6 -d route show table all"),
        ("nexthop", "-d nexthop show"),
    ] {
        unordered.extend(list(command, what, owner));
    }
    for kind in ["nud permanent", "proxy"] {
        unordered.extend(list(&format!("neighbour show {kind} dev {owner}"), "neighbour", owner));
    }
    let local =
        |object: &Object| ["\"fe80:", "\"ff00::", "\"ff0"].iter().any(|s| object.words.contains(s));
    // the kernel makes an IPv6 address's own route a moment after the address
    let own = "\"table\":\"local\",\"protocol\":\"kernel\",\"scope\":\"global\"";
    unordered.retain(|object| !local(object) && !object.words.contains(own));
    order_of_ipv4(&mut unordered, owner);
    unordered.sort();
    [found, unordered].concat()
}

/// The order of IPv4 routes counts, IPv6 tells its routes in none.
fn order_of_ipv4(found: &mut Vec<Object>, owner: &str) {
    let words = ip("-4 route show table main").replace(owner, "OWNER");
    found.push(Object { words: format!("in order: {words}"), seconds: Vec::new() });
}

fn list(command: &str, what: &str, owner: &str) -> Vec<Object> {
    let text = ip(&format!("-j {command}"));
    if text.trim().is_empty() {
        return Vec::new();
    }
    let all: Value =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{command}: {e}: {text}"));
    all.as_array().unwrap().iter().map(|value| object(what, value, owner)).collect()
}

fn object(what: &str, value: &Value, owner: &str) -> Object {
    let mut value = value.clone();
    let mut seconds = Vec::new();
    if let Value::Object(fields) = &mut value {
        for timed in ["preferred_life_time", "valid_life_time", "expires"] {
            let time = fields.remove(timed).and_then(|time| time.as_u64());
            seconds.extend(time.map(|time| u32::try_from(time).unwrap()));
        }
        // IPv6 tells the legs of a route in no order of ours
        if what == "route6"
            && let Some(Value::Array(legs)) = fields.get_mut("nexthops")
        {
            legs.sort_by_key(ToString::to_string);
        }
        // state
        for state in ["tentative", "deprecated", "unbalanced_time"] {
            fields.remove(state);
        }
        if let Some(Value::Object(group)) = fields.get_mut("resilient_args") {
            group.remove("unbalanced_time");
        }
    }
    let words = format!("{what} {value}").replace(owner, "OWNER");
    Object { words, seconds }
}

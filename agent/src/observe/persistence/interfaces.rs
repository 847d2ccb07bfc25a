//! `/etc/network/interfaces` and what it includes: interfaces(5).

use super::{Uplink, address, bits, names};
use crate::observe::owners::files::{Files, matches};
use pointsman_core::model::{Persisted, PersistedAddress, Writer};

const FILE: &str = "/etc/network/interfaces";
/// ifupdown's own limit of files that include each other is 10.
const DEPTH: u32 = 10;

/// A stanza `iface NAME FAMILY METHOD` with its options.
#[derive(Debug)]
struct Stanza {
    file: String,
    link: String,
    method: String,
    options: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct Read {
    stanzas: Vec<Stanza>,
    /// Of `auto` and `allow-hotplug`.
    started: Vec<String>,
}

pub(super) fn read(files: &mut Files<'_>, uplink: &Uplink<'_>) -> Vec<Persisted> {
    let mut all = Read::default();
    all.file(files, FILE, DEPTH);
    let own = |link: &str| {
        link == uplink.name
            || link.strip_prefix(uplink.name).is_some_and(|rest| rest.starts_with(':'))
    };
    let starts = |link: &str| {
        all.started.iter().any(|word| match word.strip_prefix('/') {
            Some(pattern) => matches(pattern, link),
            None => word == link,
        })
    };
    let stanzas = all.stanzas.iter().filter(|stanza| own(&stanza.link));
    stanzas.map(|stanza| stanza.persisted(starts(&stanza.link), uplink.name)).collect()
}

impl Read {
    fn file(&mut self, files: &mut Files<'_>, path: &str, depth: u32) {
        let Some(text) = files.text(path) else { return };
        let Some(depth) = depth.checked_sub(1) else { return };
        let text = text.replace("\\\n", " ");
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            let Some(first) = words.next().filter(|word| !word.starts_with('#')) else { continue };
            let rest: Vec<&str> = words.collect();
            match first {
                "auto" | "allow-auto" | "allow-hotplug" => {
                    inside = false;
                    self.started.extend(rest.iter().map(|word| (*word).to_owned()));
                }
                "iface" => {
                    inside = true;
                    let word = |at: usize| rest.get(at).copied().unwrap_or_default().to_owned();
                    let (link, method) = (word(0), word(2));
                    self.stanzas.push(Stanza { file: path.into(), link, method, options: vec![] });
                }
                "source" | "source-directory" => {
                    inside = false;
                    for pattern in rest {
                        for found in included(files, path, pattern, first == "source-directory") {
                            self.file(files, &found, depth);
                        }
                    }
                }
                "mapping" | "rename" | "no-auto-down" | "no-scripts" | "template" => inside = false,
                option if inside => {
                    if let Some(stanza) = self.stanzas.last_mut() {
                        stanza.options.push((option.to_owned(), rest.join(" ")));
                    }
                }
                _ => {}
            }
        }
    }
}

/// The files that a `source` line means, relative to the file that it is in.
fn included(files: &mut Files<'_>, from: &str, pattern: &str, directory: bool) -> Vec<String> {
    let base = from.rsplit_once('/').map_or("", |(base, _)| base);
    let pattern =
        if pattern.starts_with('/') { pattern.to_owned() } else { format!("{base}/{pattern}") };
    // as run-parts(8): no backup files
    let plain = |name: &String| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if directory {
        let names = files.names(&pattern);
        return names
            .iter()
            .filter(|name| plain(name))
            .map(|name| format!("{pattern}/{name}"))
            .collect();
    }
    let Some((directory, last)) = pattern.rsplit_once('/') else { return Vec::new() };
    if !last.contains(['*', '?', '[']) {
        return vec![pattern];
    }
    let names = files.names(directory);
    let visible = names.iter().filter(|name| !name.starts_with('.') && matches(last, name));
    visible.map(|name| format!("{directory}/{name}")).collect()
}

impl Stanza {
    fn persisted(&self, at_boot: bool, uplink: &str) -> Persisted {
        let option = |key: &str| {
            let found = self.options.iter().find(|(own, _)| own == key);
            found.map(|(_, value)| value.as_str())
        };
        let mut addresses: Vec<PersistedAddress> = Vec::new();
        if self.method == "static"
            && let Some(mut own) = option("address").and_then(address)
        {
            own.prefix_len = own.prefix_len.or_else(|| bits(option("netmask")?));
            addresses.push(own);
        }
        let commands = self.options.iter().filter(|(key, _)| is_command(key));
        addresses.extend(commands.filter_map(|(_, command)| added(command, uplink)));
        let text: Vec<String> =
            self.options.iter().map(|(key, value)| format!("{key} {value}")).collect();
        Persisted {
            writer: Writer::Ifupdown,
            file: self.file.clone(),
            at_boot,
            automatic: matches!(self.method.as_str(), "dhcp" | "auto" | "bootp"),
            addresses,
            names: names(&text.join("\n")),
        }
    }
}

fn is_command(key: &str) -> bool {
    matches!(key, "up" | "post-up" | "pre-up")
}

/// The address of `ip address add A dev LINK`.
fn added(command: &str, uplink: &str) -> Option<PersistedAddress> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let ip = words.iter().position(|word| *word == "ip" || word.ends_with("/ip"))?;
    let rest: Vec<&&str> =
        words.iter().skip(ip + 1).filter(|word| !word.starts_with('-')).collect();
    let is = |at: usize, all: &[&str]| rest.get(at).is_some_and(|word| all.contains(*word));
    let on = rest.windows(2).any(|pair| {
        matches!(pair, [dev, link] if **dev == "dev"
            && [uplink, "$IFACE", "\"$IFACE\"", "${IFACE}"].contains(*link))
    });
    let adds = is(0, &["a", "addr", "address"]) && is(1, &["add", "replace", "a", "change"]);
    (adds && on).then(|| address(rest.get(2)?)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::HostRoot;
    use crate::observe::owners::files::put;

    fn found(texts: &[(&str, &str)]) -> Vec<Persisted> {
        let dir = tempfile::tempdir().unwrap();
        let root = HostRoot::new(dir.path());
        for (path, text) in texts {
            put(&root, path, text);
        }
        read(&mut Files::below(&root), &Uplink { name: "eth1", mac: None })
    }

    fn ip(text: &str) -> std::net::IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn stanzas_commands_and_sources() {
        let found = found(&[
            (
                FILE,
                "auto lo\niface lo inet loopback\nsource interfaces.d/*\n\
                 allow-hotplug eth1\niface eth1 inet static\n  address 10.0.2.15\n  netmask \\\n255.255.255.0\n\
                 \tup ip addr add 10.0.2.16/24 dev $IFACE\n  up ip route add 10.8.0.0/16 via 10.0.2.77 dev eth1\n\
                 iface eth10 inet static\n address 10.0.9.9/24\n",
            ),
            ("/etc/network/interfaces.d/v6", "iface eth1 inet6 static\naddress fd77::15/64\n"),
            ("/etc/network/interfaces.d/.hidden", "iface eth1 inet6 static\naddress fd77::99/64\n"),
        ]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|file| file.gives(ip("fd77::15"), 64)));
        let main = found.iter().find(|file| file.file == FILE).unwrap();
        assert!(main.gives(ip("10.0.2.15"), 24) && main.gives(ip("10.0.2.16"), 24));
        assert!(!main.gives(ip("10.0.2.15"), 16));
        assert!(main.names.contains(&ip("10.0.2.77")));
    }

    #[test]
    fn what_is_not_started_at_boot_gives_nothing() {
        let found = found(&[(FILE, "iface eth1 inet static\n address 10.0.2.15/24\n")]);
        assert!(!found[0].gives(ip("10.0.2.15"), 24));
        assert!(!found[0].at_boot);
    }

    #[test]
    fn a_file_that_includes_itself() {
        assert!(found(&[(FILE, "source /etc/network/interfaces\n")]).is_empty());
    }
}

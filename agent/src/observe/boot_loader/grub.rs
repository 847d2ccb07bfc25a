//! GRUB: `grub.cfg` as `grub-mkconfig` writes it, and the environment block beside it.
//!
//! The file is a script, and is not run here: only what the generator writes is
//! understood (`set default=`, `menuentry`, `submenu`, `linux`, `blscfg`), and anything
//! else that decides makes the answer unknown.

use super::entries::grub_menu;
use super::{release_of_image, text};
use crate::disk::HostRoot;
use pointsman_core::model::NextBoot;
use std::collections::BTreeMap;

const PLACES: [&str; 2] = ["/boot/grub", "/boot/grub2"];

/// A node of the menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Item {
    title: String,
    id: Option<String>,
    /// Path of the image, of an entry.
    linux: Option<String>,
    /// Of a submenu.
    items: Option<Vec<Item>>,
}

/// Where a `grub.cfg` is there.
pub(super) fn next(root: &HostRoot) -> Option<NextBoot> {
    PLACES.into_iter().find_map(|place| {
        let cfg = text(root, &format!("{place}/grub.cfg"))?;
        let environment = text(root, &format!("{place}/grubenv")).unwrap_or_default();
        Some(of(root, &cfg, &environment_block(&environment), place))
    })
}

fn of(root: &HostRoot, cfg: &str, env: &BTreeMap<String, String>, place: &str) -> NextBoot {
    let mut menu = parse(cfg);
    if cfg.lines().any(|line| line.trim() == "blscfg") {
        menu.extend(grub_menu(root).into_iter().map(|entry| Item {
            linux: entry.release().map(|release| format!("vmlinuz-{release}")),
            title: entry.title,
            id: Some(entry.id),
            items: None,
        }));
    }
    let (wanted, by) = match wanted(cfg, env) {
        Ok(wanted) => wanted,
        Err(line) => {
            return NextBoot::unknown(format!("{place}/grub.cfg decides by a script: `{line}`"));
        }
    };
    let how = format!("by {by} `{wanted}` of {place}");
    match find(&menu, &wanted) {
        Some(Item { linux: Some(linux), .. }) => match release_of_image(linux) {
            Some(release) => NextBoot::is(release, how),
            None => NextBoot::unknown(format!("{how}, whose image {linux} names no release")),
        },
        Some(item) if item.items.is_some() => {
            NextBoot::unknown(format!("{how}, which is a menu and no entry"))
        }
        Some(_) => NextBoot::unknown(format!("{how}, which boots no kernel of this host")),
        None => NextBoot::unknown(format!("{how}, which is no entry of its menu")),
    }
}

/// What is chosen, and by what; the line that cannot be judged otherwise.
fn wanted(cfg: &str, env: &BTreeMap<String, String>) -> Result<(String, &'static str), String> {
    let set = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
    let reads = |name: &str| cfg.contains(&format!("${{{name}}}"));
    if let Some(entry) = set("next_entry").filter(|_| reads("next_entry")) {
        return Ok((entry, "next_entry"));
    }
    // the branch for `next_entry` comes first, those for the rest behind it
    let assigned = cfg.lines().filter_map(|line| line.trim().strip_prefix("set default="));
    let assigned = assigned.map(|value| value.trim_matches(['"', '\'']));
    let last = assigned.rev().find(|value| *value != "${next_entry}");
    match last {
        None => Ok(("0".into(), "the first entry")),
        Some("${saved_entry}") => Ok(match set("saved_entry") {
            Some(entry) => (entry, "saved_entry"),
            None => ("0".into(), "the first entry"),
        }),
        Some(value) if value.contains('$') => Err(format!("set default={value}")),
        Some(value) => Ok((value.to_owned(), "default")),
    }
}

/// By numbers, ids or titles, levels parted by `>` (GRUB's manual, "default").
fn find<'a>(menu: &'a [Item], wanted: &str) -> Option<&'a Item> {
    let by_name = |name: &str| {
        menu.iter().find(|item| item.id.as_deref() == Some(name) || item.title == name)
    };
    // a title may hold a `>` of its own
    if let Some(item) = by_name(wanted) {
        return Some(item);
    }
    let (first, rest) = wanted.split_once('>').map_or((wanted, None), |(a, b)| (a, Some(b)));
    let number = first.trim().parse::<usize>().ok();
    let item = by_name(first).or_else(|| menu.get(number?))?;
    match (rest, &item.items) {
        (Some(rest), Some(items)) => find(items, rest),
        (Some(_), None) => None,
        (None, _) => Some(item),
    }
}

/// `NAME=VALUE` lines behind the header, padded with `#`.
fn environment_block(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The menu, by its braces.
fn parse(cfg: &str) -> Vec<Item> {
    let mut lines = cfg.lines().map(str::trim);
    block(&mut lines, 0)
}

/// Deeper menus than anybody makes are not followed.
const DEEPEST: usize = 8;

/// Up to the line that closes the block.
fn block<'a>(lines: &mut impl Iterator<Item = &'a str>, depth: usize) -> Vec<Item> {
    let mut items = Vec::new();
    let mut open = 0_usize;
    while let Some(line) = lines.next() {
        let words = words(line);
        match words.first().map(String::as_str) {
            Some("menuentry") if line.ends_with('{') => {
                items.push(Item { linux: image(lines), ..head(&words) });
            }
            Some("submenu") if line.ends_with('{') && depth < DEEPEST => {
                let inside = block(lines, depth.saturating_add(1));
                items.push(Item { items: Some(inside), ..head(&words) });
            }
            Some("}") if open == 0 => return items,
            Some("}") => open = open.saturating_sub(1),
            // functions, which the generator writes in front of the menu
            _ if line.ends_with('{') => open = open.saturating_add(1),
            _ => {}
        }
    }
    items
}

/// The image of an entry, up to its end.
fn image<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<String> {
    let mut image = None;
    let mut open = 0_usize;
    for line in lines {
        let words = words(line);
        match words.first().map(String::as_str) {
            Some("linux" | "linux16" | "linuxefi") => image = image.or(words.get(1).cloned()),
            Some("}") if open == 0 => break,
            Some("}") => open = open.saturating_sub(1),
            _ if line.ends_with('{') => open = open.saturating_add(1),
            _ => {}
        }
    }
    image
}

fn head(words: &[String]) -> Item {
    let after = |option: &str| {
        let at = words.iter().position(|word| word == option)?;
        words.get(at.saturating_add(1)).cloned()
    };
    Item {
        title: words.get(1).cloned().unwrap_or_default(),
        // grub-mkconfig spells `--id` as a variable that old versions lack
        id: after("$menuentry_id_option").or_else(|| after("--id")),
        ..Item::default()
    }
}

/// Words as a shell reads them, without expansion.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote, mut begun) = (String::new(), None, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', None | Some('"')) => {
                word.extend(letters.next());
                begun = true;
            }
            ('"' | '\'', None) => (quote, begun) = (Some(letter), true),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            ('#', None) if !begun => break,
            (letter, _) => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

//! Which copy of a module depmod will choose, before it is asked.

use super::overrides::{fits, in_order};
use crate::config::Paths;
use crate::model::{DepmodOverride, FileState, MODULE_STEMS, Observed, module_stem};
use std::collections::{BTreeMap, BTreeSet};

/// By stem: the files, below the kernel's directory, that depmod may choose. More than
/// one where they rank equal (then the order of directory entries decides); none where
/// there is no copy.
pub(crate) type Winners = BTreeMap<String, BTreeSet<String>>;

/// Copies of one stem, below the kernel's directory.
pub(crate) fn copies(observed: &Observed, paths: &Paths, kernel: &str) -> Winners {
    let prefix = format!("{}/{kernel}/", paths.modules);
    let mut copies: Winners =
        MODULE_STEMS.iter().map(|stem| ((*stem).to_owned(), BTreeSet::new())).collect();
    let below = observed.files.range(prefix.clone()..);
    for (path, state) in below.take_while(|(path, _)| path.starts_with(&prefix)) {
        let Some(inside) = path.strip_prefix(&prefix) else { continue };
        let name = inside.rsplit('/').next().unwrap_or(inside);
        let there = match state {
            FileState::Regular { .. } => true,
            // depmod passes over a link that leads nowhere, without a word
            FileState::Symlink { .. } => observed.modules.links.contains_key(path),
            FileState::Directory | FileState::Other => false,
        };
        if there
            && !inside.starts_with("build/")
            && !inside.starts_with("source/")
            && let Some(copies) = module_stem(name).and_then(|stem| copies.get_mut(stem))
        {
            copies.insert(inside.to_owned());
        }
    }
    copies
}

/// depmod's choice for a kernel: the override that is read last, then the search order.
pub(crate) fn winners(observed: &Observed, paths: &Paths, kernel: &str) -> Winners {
    let confs = in_order(observed, paths);
    let overrides: Vec<&DepmodOverride> =
        confs.iter().flat_map(|(_, conf)| &conf.overrides).collect();
    let mut search: Vec<&str> =
        confs.iter().flat_map(|(_, conf)| &conf.search).map(String::as_str).collect();
    if search.is_empty() {
        search = vec!["updates", "built-in"];
    }
    let choose = |(stem, copies): (String, BTreeSet<String>)| {
        let chosen = overridden(&overrides, &stem, &copies, kernel)
            .unwrap_or_else(|| highest(&search, &copies));
        (stem, chosen)
    };
    copies(observed, paths, kernel).into_iter().map(choose).collect()
}

fn overridden(
    overrides: &[&DepmodOverride],
    stem: &str,
    copies: &BTreeSet<String>,
    kernel: &str,
) -> Option<BTreeSet<String>> {
    overrides.iter().rev().filter(|line| line.stem == stem).find_map(|line| {
        // a pattern that this reader cannot judge is taken for one that matches: then
        // the plan refuses, where otherwise depmod's choice could surprise it
        if fits(&line.kernel, kernel) == Some(false) {
            return None;
        }
        let inside = format!("{}/{stem}", line.directory.trim_end_matches('/'));
        let named = |path: &&String| {
            path.strip_prefix(&inside).is_some_and(|rest| module_stem(rest) == Some(""))
        };
        let chosen: BTreeSet<String> = copies.iter().filter(named).cloned().collect();
        (!chosen.is_empty()).then_some(chosen)
    })
}

fn highest(search: &[&str], copies: &BTreeSet<String>) -> BTreeSet<String> {
    let place = |word: &str| search.iter().position(|directory| *directory == word);
    // smaller is higher; what no search command names ranks with the kernel's own
    let rank = |path: &str| {
        let named = search.iter().position(|directory| {
            path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
        });
        named.or_else(|| place("built-in")).unwrap_or(usize::MAX)
    };
    let best = copies.iter().map(|path| rank(path)).min();
    copies.iter().filter(|path| Some(rank(path)) == best).cloned().collect()
}

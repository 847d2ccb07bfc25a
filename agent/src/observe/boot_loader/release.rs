//! Kernel releases in order of age, as `sort -V` and rpm put them, near enough.

use std::cmp::Ordering;

/// Numbers by value, other text by letters, a number behind any other text.
pub(super) fn compare(one: &str, two: &str) -> Ordering {
    let (mut one, mut two) = (runs(one).into_iter(), runs(two).into_iter());
    loop {
        let order = match (one.next(), two.next()) {
            (None, None) => return Ordering::Equal,
            // 6.1 is older than 6.1.1, and 6.1~rc1 older than 6.1
            (None, Some(rest)) => return tilde(rest),
            (Some(rest), None) => return tilde(rest).reverse(),
            (Some(one), Some(two)) => compare_runs(one, two),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn tilde(rest: &str) -> Ordering {
    if rest.starts_with('~') { Ordering::Greater } else { Ordering::Less }
}

fn compare_runs(one: &str, two: &str) -> Ordering {
    let is_number = |run: &str| run.starts_with(|c: char| c.is_ascii_digit());
    match (is_number(one), is_number(two)) {
        (true, true) => {
            let [one, two] = [one, two].map(|run| run.trim_start_matches('0'));
            one.len().cmp(&two.len()).then_with(|| one.cmp(two))
        }
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => match (one.starts_with('~'), two.starts_with('~')) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (true, true) | (false, false) => one.cmp(two),
        },
    }
}

fn runs(text: &str) -> Vec<&str> {
    let mut runs = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let digit = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        runs.push(run);
        rest = behind;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_greater() {
        let ascending = [
            "5.14.0-70.el9.x86_64",
            "5.14.0-427.el9.x86_64",
            "6.1~rc1",
            "6.1",
            "6.1.0-9-amd64",
            "6.1.0-10-amd64",
            "6.12.117+deb12-cloud-amd64",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (other, two) in ascending.iter().enumerate() {
                assert_eq!(compare(one, two), at.cmp(&other), "{one} {two}");
            }
        }
    }
}

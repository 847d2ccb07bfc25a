//! What every error of the product answers, beside its text.

use std::error::Error;

/// An error that a machine can act on too.
///
/// `Display` names the failed operation and its operands and never repeats the
/// source; [`chain`] prints the whole.
pub trait Reasoned: Error + Send + Sync + 'static {
    /// A stable `CamelCase` word for annotations, events and metric labels.
    fn reason(&self) -> &'static str;
    /// Whether the same operation may succeed later with nothing changed by a person.
    fn is_transient(&self) -> bool;
}

/// The text of an error and of its causes, joined by `: `.
///
/// A cause that its parent's text already contains is left out: some libraries
/// print their sources themselves.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use thiserror::Error;

    #[derive(Debug, Error)]
    #[error("write /a")]
    struct Outer(#[source] Inner);
    #[derive(Debug, Error)]
    #[error("no space")]
    struct Inner;

    #[test]
    fn a_chain_names_each_cause_once() {
        assert_eq!(chain(&Outer(Inner)), "write /a: no space");
        assert_eq!(chain(&Inner), "no space");
    }
}

use crate::error::Reasoned;
use thiserror::Error;

/// A configuration that cannot be used. Nothing was changed.
#[derive(Debug, Error)]
pub enum BadConfig {
    /// Not TOML.
    #[error("the configuration is not TOML")]
    Syntax(#[source] toml::de::Error),
    /// A key that nobody reads.
    #[error("the configuration has the unknown key `{key}`{}", hint(nearest.as_deref()))]
    UnknownKey {
        /// With its tables, as `node.uplnk`.
        key: String,
        /// The known key that it resembles most.
        nearest: Option<String>,
    },
    /// A value of the wrong kind.
    #[error("the configuration holds a value that does not fit")]
    Value(#[source] toml::de::Error),
    /// A value of the right kind that is wrong.
    #[error("the configuration's `{key}` is `{found}`: {expected}")]
    Wrong {
        /// With its tables.
        key: String,
        /// As written.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A value that must be there.
    #[error("the configuration lacks `{key}`: {expected}")]
    Missing {
        /// With its tables.
        key: String,
        /// What it is for.
        expected: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean `{key}`?"))
}

impl Reasoned for BadConfig {
    fn reason(&self) -> &'static str {
        "BadConfig"
    }

    fn is_transient(&self) -> bool {
        false
    }
}

use pointsman_core::error::Reasoned;
use std::error::Error;
use std::time::Duration;
use thiserror::Error;

/// Longest part of an API server's answer that an error repeats, characters. What
/// stands in front of the API server may answer with a whole web page.
const ANSWER_LIMIT: usize = 600;

/// The Node could not be watched, read or written.
#[derive(Debug, Error)]
pub enum NodeError {
    /// Not what a Node can be called.
    #[error("`{0}` is no Node name: `a-z`, `0-9`, `-` and `.` are expected")]
    Name(String),
    /// No usable address or credentials.
    #[error("learn from {from} how to reach the API server")]
    Config {
        /// File, or the pod's environment.
        from: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{operation} Node {node}: no answer from {server} within {limit:?}")]
    TimedOut {
        /// What was tried.
        operation: &'static str,
        /// Name.
        node: String,
        /// The API server's URL.
        server: String,
        /// How long was waited.
        limit: Duration,
    },
    /// No connection, or something on it that no API server says.
    #[error("{operation} Node {node}: no usable answer from {server}")]
    Unreachable {
        /// What was tried.
        operation: &'static str,
        /// Name.
        node: String,
        /// The API server's URL.
        server: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The API server said no.
    #[error("{operation} Node {node}: the API server answered {code}: {message}")]
    Denied {
        /// What was tried.
        operation: &'static str,
        /// Name.
        node: String,
        /// HTTP status.
        code: u16,
        /// The API server's own words, which name what is forbidden or invalid.
        message: String,
    },
    /// The watch was ended at once.
    #[error("watch Node {node}: {server} ends every watch as soon as it starts")]
    WatchCutShort {
        /// Name.
        node: String,
        /// The API server's URL.
        server: String,
    },
    /// No such Node: not registered yet, or deleted.
    #[error("{operation} Node {node}: there is no such Node")]
    Missing {
        /// What was tried.
        operation: &'static str,
        /// Name.
        node: String,
    },
    /// The Node was deleted and created again.
    #[error(
        "the report is about a former Node {node} of uid {expected}; the present one is {found}"
    )]
    Replaced {
        /// Name.
        node: String,
        /// Uid that the report is about.
        expected: String,
        /// Uid of the present Node.
        found: String,
    },
}

impl Reasoned for NodeError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Name(_) => "BadNodeName",
            Self::Config { .. } => "ApiConfigUnusable",
            Self::TimedOut { .. } => "ApiTimedOut",
            Self::Unreachable { .. } | Self::WatchCutShort { .. } => "ApiUnreachable",
            Self::Denied { code: 401, .. } => "ApiUnauthorized",
            Self::Denied { code: 403, .. } => "ApiForbidden",
            Self::Denied { .. } => "ApiDenied",
            Self::Missing { .. } => "NodeMissing",
            Self::Replaced { .. } => "NodeReplaced",
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. }
            | Self::Unreachable { .. }
            | Self::WatchCutShort { .. }
            | Self::Missing { .. } => true,
            // 401 is also what a starting API server says of a good token
            Self::Denied { code, .. } => matches!(code, 401 | 408 | 409 | 410 | 429 | 500..),
            Self::Name(_) | Self::Config { .. } | Self::Replaced { .. } => false,
        }
    }
}

/// An API server's words, on one line and not too many.
pub(super) fn words(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(ANSWER_LIMIT) {
        Some((end, _)) => line.get(..end).unwrap_or_default().to_owned() + "…",
        None => line,
    }
}

//! Settings: text, then a fragment that mirrors it, then checked values.
//!
//! Only [`Settings`] leaves this module. A key that is not in [`keys`] is an
//! error that names the nearest key that is.

mod error;
mod fragment;
mod schema;
mod settings;

pub use error::BadConfig;
pub use schema::{Key, keys};
pub use settings::*;

//! Settings: text, then a fragment that mirrors it, then checked values.
//!
//! Only [`Settings`] leaves this module.

mod settings;

pub use settings::*;

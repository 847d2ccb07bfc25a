//! The whole switch: one profile to another.

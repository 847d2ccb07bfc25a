//! What the test tiers share.

pub mod cluster;
pub mod vm;

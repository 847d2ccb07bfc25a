//! What the test tiers share.

pub mod cluster;

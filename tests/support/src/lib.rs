//! What the test tiers share.

pub mod cluster;
pub mod netns;
pub mod node;
pub mod operator;
pub mod ovs;
pub mod payload;
pub mod program;
pub mod vm;

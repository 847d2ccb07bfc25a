//! The words that the test driver and its hand inside the VM exchange, and the
//! summaries that the probes write.

pub mod protocol;
pub mod summary;

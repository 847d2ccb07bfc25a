//! Tests that need a machine of their own: a kernel to load modules into, a power
//! button, a wire.

mod annotated;
mod bed;
mod boot;
mod deadman;
mod exchange;
mod guard;
mod handover;
mod kernels;
mod killed;
mod lossless;
mod modules;
mod owners;
mod power;
mod refusals;
mod rollback;
mod state;
mod switch;

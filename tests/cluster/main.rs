//! Tests against a real API server.
//!
//! One control plane serves all of them: whoever stops it holds the lock alone,
//! the others share it. Names of nodes and namespaces are each test's own.

mod agent;
mod agent_outages;
mod beside;
mod control_plane;
mod events;
mod manifests;

use std::sync::{LazyLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use support::cluster::ControlPlane;

static SHARED: LazyLock<RwLock<ControlPlane>> =
    LazyLock::new(|| RwLock::new(ControlPlane::start()));

fn shared() -> RwLockReadGuard<'static, ControlPlane> {
    SHARED.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ControlPlane> {
    SHARED.write().unwrap_or_else(PoisonError::into_inner)
}

//! The only place that speaks netlink.

//! Sysctls of a link that stay where they are, each with its reason: what is neither here nor
//! among the carried is a value that nobody has thought about.

use super::Sysctl;

const fn stays(key: &'static str, why: &'static str) -> Sysctl {
    Sysctl { key, why }
}

const SECONDS: &str = "the same as the one that ends in _ms, in other units";
const ADVERTISED: &str = "routers advertise it, and the bridge hears them";
const AT_START: &str = "of the moments after a link is set up, which are over";
const IDENTITY: &str = "an identity of the link's own";
const UNUSED: &str = "no kernel reads it";

/// All of them. Whether what a kernel has is carried or is here, a test in `tests/netns` sees.
pub const LEFT_OUT_SYSCTLS: &[Sysctl] = &[
    stays("ipv4/rp_filter", "carried by steps of its own: it is loosened for the time of the move"),
    stays("ipv4/bootp_relay", UNUSED),
    stays("ipv4/tag", UNUSED),
    stays("ipv4/mc_forwarding", "read only: a multicast routing daemon says it to the kernel"),
    stays("ipv4/igmpv2_unsolicited_report_interval", AT_START),
    stays("ipv4/igmpv3_unsolicited_report_interval", AT_START),
    stays("ipv4/neigh/base_reachable_time", SECONDS),
    stays("ipv4/neigh/retrans_time", SECONDS),
    stays("ipv4/neigh/unres_qlen", "the same as unres_qlen_bytes, in packets"),
    stays(
        "ipv6/mtu",
        "the link's MTU is carried, which it follows; a smaller one routers advertise",
    ),
    stays("ipv6/stable_secret", "a secret of the link's own: both would make the same addresses"),
    stays("ipv6/mc_forwarding", "read only: a multicast routing daemon says it to the kernel"),
    stays("ipv6/ioam6_enabled", "of a domain in which each link has an identity"),
    stays("ipv6/ioam6_id", IDENTITY),
    stays("ipv6/ioam6_id_wide", IDENTITY),
    stays("ipv6/max_desync_factor", AT_START),
    stays("ipv6/mldv1_unsolicited_report_interval", AT_START),
    stays("ipv6/mldv2_unsolicited_report_interval", AT_START),
    stays("ipv6/regen_max_retry", AT_START),
    stays("ipv6/regen_min_advance", AT_START),
    stays("ipv6/router_probe_interval", AT_START),
    stays("ipv6/router_solicitation_delay", AT_START),
    stays("ipv6/router_solicitation_interval", AT_START),
    stays("ipv6/router_solicitation_max_interval", AT_START),
    stays("ipv6/router_solicitations", AT_START),
    stays("ipv6/neigh/base_reachable_time", SECONDS),
    stays("ipv6/neigh/base_reachable_time_ms", ADVERTISED),
    stays("ipv6/neigh/retrans_time", SECONDS),
    stays("ipv6/neigh/retrans_time_ms", ADVERTISED),
    stays("ipv6/neigh/unres_qlen", "the same as unres_qlen_bytes, in packets"),
];

//! Sysctls of the links: a bridge that is made starts with the kernel's defaults, and has to
//! behave as the uplink did before it gets the first address.

use super::addresses::left_out;
use super::{Case, Owner, Step};
use crate::model::Network;

const DISABLE_IPV6: &str = "ipv6/disable_ipv6";
const ADDR_GEN_MODE: &str = "ipv6/addr_gen_mode";
/// `IN6_ADDR_GEN_MODE_STABLE_PRIVACY`: needs a secret of the link's own.
const STABLE_PRIVACY: i64 = 2;
/// `rp_filter` for the time of the move.
const LOOSE: u8 = 2;

/// A sysctl that is carried.
#[derive(Clone, Copy, Debug)]
pub struct Sysctl {
    /// `ipv4/arp_ignore` is `net.ipv4.conf.LINK.arp_ignore`, and `ipv4/neigh/locktime`
    /// `net.ipv4.neigh.LINK.locktime`.
    pub key: &'static str,
    /// What goes wrong where it is not carried.
    pub why: &'static str,
}

const fn sysctl(key: &'static str, why: &'static str) -> Sysctl {
    Sysctl { key, why }
}

/// All that are carried, in the order of being set. `rp_filter` is carried too, by steps of its own,
/// as it is loosened for the time of the move.
pub const SYSCTLS: &[Sysctl] = &[
    sysctl("ipv4/forwarding", "packets that come in for pods are dropped"),
    sysctl(
        "ipv4/accept_local",
        "packets with an own source, as behind a load balancer, are dropped",
    ),
    sysctl("ipv4/accept_redirects", "a router's redirects are followed, or no longer"),
    sysctl("ipv4/accept_source_route", "source routed packets are let in, or no longer"),
    sysctl("ipv4/arp_accept", "gratuitous ARP of a new neighbour is not learnt"),
    sysctl(
        "ipv4/arp_announce",
        "ARP asks with an address of another subnet, which switches filter",
    ),
    sysctl("ipv4/arp_evict_nocarrier", "neighbours are forgotten when the carrier goes"),
    sysctl("ipv4/arp_filter", "ARP is answered on links that would not send the answer"),
    sysctl("ipv4/arp_ignore", "ARP is answered for addresses of other links"),
    sysctl("ipv4/arp_notify", "changes of the MAC are not announced"),
    sysctl("ipv4/bc_forwarding", "directed broadcasts are not forwarded"),
    sysctl("ipv4/disable_policy", "IPsec policies apply, or no longer"),
    sysctl("ipv4/disable_xfrm", "IPsec applies, or no longer"),
    sysctl("ipv4/drop_gratuitous_arp", "gratuitous ARP is taken, or no longer"),
    sysctl(
        "ipv4/drop_unicast_in_l2_multicast",
        "unicast in multicast frames is taken, or no longer",
    ),
    sysctl("ipv4/force_igmp_version", "a querier of another IGMP version is answered wrongly"),
    sysctl("ipv4/ignore_routes_with_linkdown", "routes without a carrier are used, or no longer"),
    sysctl("ipv4/log_martians", "packets with impossible sources are logged, or no longer"),
    sysctl("ipv4/medium_id", "proxy ARP answers within one medium"),
    sysctl("ipv4/promote_secondaries", "deleting a first address takes its secondaries along"),
    sysctl("ipv4/proxy_arp", "ARP for pods and VPN clients is not answered"),
    sysctl("ipv4/proxy_arp_pvlan", "ARP within a private VLAN is not answered"),
    sysctl("ipv4/route_localnet", "node ports on 127.0.0.1 that are rewritten are dropped"),
    sysctl("ipv4/secure_redirects", "redirects of gateways are followed, or no longer"),
    sysctl("ipv4/send_redirects", "redirects are sent to peers that ignored none before"),
    sysctl("ipv4/shared_media", "redirects between subnets of one medium are sent, or no longer"),
    sysctl("ipv4/src_valid_mark", "marked packets fail the reverse path filter"),
    sysctl("ipv6/forwarding", "packets that come in for pods are dropped"),
    sysctl("ipv6/accept_dad", "a duplicate address disables IPv6, or no longer"),
    sysctl(
        "ipv6/accept_ra",
        "with forwarding only 2 hears routers: the default route expires, hours later",
    ),
    sysctl("ipv6/accept_ra_defrtr", "no default route is learnt"),
    sysctl("ipv6/accept_ra_from_local", "advertisements of this host are heard, or no longer"),
    sysctl("ipv6/accept_ra_min_hop_limit", "a small hop limit is taken from routers"),
    sysctl("ipv6/accept_ra_mtu", "a smaller MTU is taken from routers, or no longer"),
    sysctl("ipv6/accept_ra_pinfo", "no addresses are made of advertised prefixes"),
    sysctl("ipv6/accept_ra_rt_info_max_plen", "advertised routes are not learnt"),
    sysctl("ipv6/accept_ra_rt_info_min_plen", "advertised routes are not learnt"),
    sysctl("ipv6/accept_ra_rtr_pref", "the preference among routers is not heeded"),
    sysctl("ipv6/accept_redirects", "a router's redirects are followed, or no longer"),
    sysctl("ipv6/accept_source_route", "source routed packets are let in, or no longer"),
    sysctl("ipv6/accept_untracked_na", "unasked advertisements are learnt, or no longer"),
    sysctl("ipv6/autoconf", "addresses are made of advertised prefixes, or no longer"),
    sysctl("ipv6/dad_transmits", "duplicates are looked for longer, or not at all"),
    sysctl(
        "ipv6/drop_unicast_in_l2_multicast",
        "unicast in multicast frames is taken, or no longer",
    ),
    sysctl("ipv6/drop_unsolicited_na", "unasked advertisements are taken, or no longer"),
    sysctl("ipv6/enhanced_dad", "a looped back probe is taken for a duplicate"),
    sysctl("ipv6/force_mld_version", "a querier of another MLD version is answered wrongly"),
    sysctl("ipv6/hop_limit", "packets live for another number of hops"),
    sysctl("ipv6/ignore_routes_with_linkdown", "routes without a carrier are used, or no longer"),
    sysctl("ipv6/keep_addr_on_down", "static addresses are lost when the link is set down"),
    sysctl("ipv6/ndisc_evict_nocarrier", "neighbours are forgotten when the carrier goes"),
    sysctl("ipv6/ndisc_notify", "changes of the MAC are not announced"),
    sysctl("ipv6/optimistic_dad", "an address is used before, or only after, its probe"),
    sysctl("ipv6/proxy_ndp", "neighbours are not answered for pods and VPN clients"),
    sysctl("ipv6/seg6_enabled", "segment routed packets are dropped"),
    sysctl("ipv6/suppress_frag_ndisc", "fragmented neighbour discovery is taken, or no longer"),
    sysctl("ipv6/use_oif_addrs_only", "an address of another link is chosen as source"),
    sysctl("ipv6/use_optimistic", "an address is used before, or only after, its probe"),
    sysctl("ipv6/use_tempaddr", "temporary addresses are made and preferred, or no longer"),
    sysctl("ipv6/accept_ra_min_lft", "advertisements that are over soon are taken, or no longer"),
    sysctl("ipv6/disable_policy", "IPsec policies apply, or no longer"),
    sysctl("ipv6/force_forwarding", "packets that come in for pods are dropped"),
    sysctl("ipv6/force_tllao", "answers to solicitations lack the MAC that a peer insists on"),
    sysctl("ipv6/max_addresses", "an advertised prefix more gets no address"),
    sysctl("ipv6/ndisc_tclass", "neighbour discovery has another traffic class"),
    sysctl("ipv6/ra_defrtr_metric", "an advertised default route comes before a static one"),
    sysctl("ipv6/ra_honor_pio_life", "a short lifetime is taken from routers, or no longer"),
    sysctl("ipv6/ra_honor_pio_pflag", "addresses are made where a router wants prefixes asked for"),
    sysctl("ipv6/rpl_seg_enabled", "source routed packets of RPL are dropped"),
    sysctl("ipv6/seg6_require_hmac", "segment routed packets without an HMAC are let in"),
    sysctl("ipv6/temp_prefered_lft", "temporary addresses are exchanged sooner or later"),
    sysctl("ipv6/temp_valid_lft", "temporary addresses end sooner or later"),
    sysctl("ipv4/neigh/app_solicit", "a program that resolves neighbours is asked, or no longer"),
    sysctl("ipv4/neigh/anycast_delay", "answers for anycast addresses come sooner or later"),
    sysctl("ipv4/neigh/base_reachable_time_ms", "neighbours are asked anew sooner or later"),
    sysctl("ipv4/neigh/delay_first_probe_time", "a dead gateway is noticed sooner or later"),
    sysctl("ipv4/neigh/gc_stale_time", "unused neighbours are forgotten sooner or later"),
    sysctl("ipv4/neigh/interval_probe_time_ms", "managed neighbours are asked sooner or later"),
    sysctl("ipv4/neigh/locktime", "a neighbour's new MAC is taken sooner or later"),
    sysctl("ipv4/neigh/mcast_resolicit", "a silent neighbour is asked by broadcast, or no longer"),
    sysctl("ipv4/neigh/mcast_solicit", "a slow neighbour is given up too early"),
    sysctl("ipv4/neigh/proxy_delay", "proxied ARP is answered sooner or later"),
    sysctl("ipv4/neigh/proxy_qlen", "proxied ARP is dropped in a burst"),
    sysctl("ipv4/neigh/retrans_time_ms", "a silent neighbour is asked again sooner or later"),
    sysctl("ipv4/neigh/ucast_solicit", "a slow gateway is given up too early"),
    sysctl("ipv4/neigh/unres_qlen_bytes", "packets for a neighbour that is looked for are dropped"),
    sysctl("ipv6/neigh/app_solicit", "a program that resolves neighbours is asked, or no longer"),
    sysctl("ipv6/neigh/anycast_delay", "answers for anycast addresses come sooner or later"),
    sysctl("ipv6/neigh/delay_first_probe_time", "a dead gateway is noticed sooner or later"),
    sysctl("ipv6/neigh/gc_stale_time", "unused neighbours are forgotten sooner or later"),
    sysctl("ipv6/neigh/interval_probe_time_ms", "managed neighbours are asked sooner or later"),
    sysctl("ipv6/neigh/locktime", "a neighbour's new MAC is taken sooner or later"),
    sysctl("ipv6/neigh/mcast_resolicit", "a silent neighbour is asked by multicast, or no longer"),
    sysctl("ipv6/neigh/mcast_solicit", "a slow neighbour is given up too early"),
    sysctl("ipv6/neigh/proxy_delay", "proxied solicitations are answered sooner or later"),
    sysctl("ipv6/neigh/proxy_qlen", "proxied solicitations are dropped in a burst"),
    sysctl("ipv6/neigh/ucast_solicit", "a slow gateway is given up too early"),
    sysctl("ipv6/neigh/unres_qlen_bytes", "packets for a neighbour that is looked for are dropped"),
    sysctl(ADDR_GEN_MODE, "the link-local address is made otherwise, or not at all"),
    sysctl(DISABLE_IPV6, "IPv6 addresses are refused"),
];

#[derive(Default)]
pub(super) struct Sysctls {
    /// Of the target, before it gets an address.
    pub(super) carry: Vec<Step>,
    /// Of the other link, when it has none any more.
    pub(super) restore: Vec<Step>,
    pub(super) notes: Vec<String>,
}

impl Sysctls {
    /// `moving` says whether addresses change their link, `makes_bridge` and `deletes_bridge` what
    /// becomes of the bridge.
    pub(super) fn of(
        case: &Case<'_>,
        moving: bool,
        [makes_bridge, deletes_bridge]: [bool; 2],
    ) -> Self {
        let mut sysctls = Self::default();
        let now = &case.now.network;
        for link in [case.target, case.source] {
            let is_bridge = link == case.want.bridge;
            if is_bridge && deletes_bridge {
                continue;
            }
            let have = match now.link(link) {
                Some(found) => &found.sysctls,
                None if is_bridge && makes_bridge => &now.sysctl_defaults,
                None => continue,
            };
            for Sysctl { key, .. } in SYSCTLS {
                let Some(value) = have.get(*key).and_then(|have| {
                    wanted(case, link, moving, key, *have).filter(|value| value != have)
                }) else {
                    continue;
                };
                if *key == ADDR_GEN_MODE && value == STABLE_PRIVACY {
                    sysctls.notes.push(format!(
                        "{ADDR_GEN_MODE} of {link} stays: its addresses are made with a secret of the other link's own"
                    ));
                    continue;
                }
                let step = Step::SetSysctl { link: link.to_owned(), key: (*key).to_owned(), value };
                let on_target = link == case.target;
                (if on_target { &mut sysctls.carry } else { &mut sysctls.restore }).push(step);
            }
        }
        sysctls
    }
}

/// The value that a link is to have, where that is known.
fn wanted(case: &Case<'_>, link: &str, moving: bool, key: &str, have: i64) -> Option<i64> {
    let of = |network: &Network, name: &str| network.link(name)?.sysctls.get(key).copied();
    let now = &case.now.network;
    let is_uplink = link == case.want.uplink;
    if key == DISABLE_IPV6 && have != 0 && link == case.target && carries_ipv6(case) {
        return Some(0);
    }
    let value = match (case.want.to, case.before) {
        (_, Some(before)) if is_uplink => of(before, link),
        (Owner::Bridge, Some(before)) => bridge_as_before(case, before, key, have),
        (Owner::Bridge, None) if moving && !is_uplink => of(now, &case.want.uplink),
        // a bridge that is left keeps what it got, unless the way back is taken
        (Owner::Uplink, Some(before)) if case.salvage => of(before, link),
        _ => None,
    };
    value.filter(|value| key != DISABLE_IPV6 || *value == 0 || !holds_ipv6(case, link))
}

/// The uplink's values where that owned the addresses; a bridge that owned them may have had others.
fn bridge_as_before(case: &Case<'_>, before: &Network, key: &str, have: i64) -> Option<i64> {
    let of = |name: &str| before.link(name)?.sysctls.get(key).copied();
    let uplink = of(&case.want.uplink);
    let owner = case.owner_before()?;
    if owner == case.want.bridge && uplink != Some(have) { of(owner) } else { uplink }
}

fn carries_ipv6(case: &Case<'_>) -> bool {
    let mut all = case.networks().flat_map(|network| &network.addresses);
    all.any(|a| case.is_ours(&a.link) && a.ip.is_ipv6() && left_out(a).is_none())
}

/// Whether a link has IPv6 addresses after the move: the other one then has none to lose.
fn holds_ipv6(case: &Case<'_>, link: &str) -> bool {
    link == case.target && carries_ipv6(case)
}

/// `rp_filter` of a link after the move, where it has `now`. What an interrupted move has
/// loosened gets its value back.
pub(super) fn rp_filter(case: &Case<'_>, link: &str, moving: bool, now: u8) -> u8 {
    let of = |network: &Network, name: &str| network.link(name)?.rp_filter;
    let uplink = case.want.uplink.as_str();
    let carried = match (case.want.to, case.before) {
        (Owner::Bridge, None) if moving && link != uplink => of(&case.now.network, uplink),
        (Owner::Bridge, Some(before)) if link != uplink => match case.owner_before() {
            Some(owner) if owner == uplink => of(before, uplink),
            _ => None,
        },
        (Owner::Uplink, Some(before)) if case.salvage && link != uplink => of(before, link),
        _ => None,
    };
    let loosened = || {
        let before = case.before.filter(|_| now == LOOSE)?;
        Some(of(before, link).unwrap_or(before.rp_filter_default))
    };
    carried.or_else(loosened).unwrap_or(now)
}

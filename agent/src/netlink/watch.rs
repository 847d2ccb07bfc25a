//! Notifications, for whoever waits for a change: what changed is read again in whole.

use super::NetlinkError;
use futures::{Stream, StreamExt as _};
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use std::future::ready;

/// Something of the network changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkChange {
    /// A link came, went or changed.
    Links,
    /// An address came, went or changed.
    Addresses,
    /// A route came, went or changed.
    Routes,
    /// Notifications were lost; anything may have changed.
    Lost,
}

/// A stream of changes of the network namespace that the calling thread is in, from now on.
///
/// Must be called inside a Tokio runtime, which runs the socket. The stream ends when
/// the socket fails: then open another and read everything once.
pub fn watch() -> Result<impl Stream<Item = NetworkChange> + Unpin + use<>, NetlinkError> {
    let (connection, handle, messages) = new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ])
    .map_err(|source| NetlinkError::Socket { operation: "subscribe", source })?;
    let task = tokio::spawn(connection);
    Ok(messages.filter_map(move |(message, _)| {
        // the connection ends with its last handle
        let _kept = (&handle, &task);
        ready(change(&message.payload))
    }))
}

fn change(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<NetworkChange> {
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_),
        ) => Some(NetworkChange::Links),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_),
        ) => Some(NetworkChange::Addresses),
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_),
        ) => Some(NetworkChange::Routes),
        NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => Some(NetworkChange::Lost),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Connection, Links, link};
    use std::time::Duration;

    #[tokio::test]
    async fn a_change_is_told() {
        let mut changes = watch().unwrap();
        let mut connection = Connection::open().unwrap();
        let links = Links::dump(&mut connection).unwrap();
        connection.execute(&link::set_mtu(&links, "lo", 65000).unwrap()).unwrap();
        let told = tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap();
        assert_eq!(told, Some(NetworkChange::Links));
    }
}

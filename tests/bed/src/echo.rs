//! Sends back what comes in.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use nix::sys::socket::{setsockopt, sockopt};

use crate::Failure;

/// UDP and TCP on each of the ports. `[::]` takes IPv4 too.
///
/// A UDP reply is the packet with the sender's address as text behind it. Its own
/// source is the address listened on, or the route's choice where that is `[::]`,
/// as with any plain server.
pub fn serve(listen: Vec<SocketAddr>) -> Result<(), Failure> {
    let mut servers = Vec::new();
    for address in listen {
        let udp = UdpSocket::bind(address).map_err(|e| format!("bind UDP {address}: {e}"))?;
        let tcp = TcpListener::bind(address).map_err(|e| format!("listen on {address}: {e}"))?;
        setsockopt(&udp, sockopt::RcvBufForce, &(4 << 20))?;
        thread::spawn(move || {
            for connection in tcp.incoming().flatten() {
                thread::spawn(move || send_back(connection));
            }
        });
        servers.push(thread::spawn(move || answer(&udp)));
    }
    servers.into_iter().try_for_each(|server| server.join().map_err(|_| "a server panicked".into()))
}

fn answer(udp: &UdpSocket) {
    let mut packet = [0_u8; 2048];
    loop {
        // Errors here are ICMP's answers to former replies.
        let Ok((length, from)) = udp.recv_from(&mut packet[..1500]) else { continue };
        let seen = from.ip().to_canonical().to_string();
        packet[length..length + seen.len()].copy_from_slice(seen.as_bytes());
        // No way back at the moment: the probe counts that, not this side.
        drop(udp.send_to(&packet[..length + seen.len()], from));
    }
}

fn send_back(mut connection: TcpStream) {
    let mut buffer = [0_u8; 4096];
    if connection.set_nodelay(true).is_err() {
        return;
    }
    while let Ok(length) = connection.read(&mut buffer) {
        if length == 0 || connection.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

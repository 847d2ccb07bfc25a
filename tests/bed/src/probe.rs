//! Numbered UDP packets to an echo, and which of them came back.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bed::summary::Probe;
use nix::sys::socket::{setsockopt, sockopt};

use crate::Failure;
use crate::options::Traffic;
use crate::sending::{Pace, millis, stop_flag, write_summary};

/// How long stragglers are waited for after the last packet.
const STRAGGLERS: Duration = Duration::from_secs(1);
/// Marks the packets of this program; 8 bytes of number follow.
const MAGIC: [u8; 8] = *b"bedprobe";
const PACKET: usize = 64;

/// Sends until SIGTERM, waits for stragglers, writes a [`Probe`].
pub fn run(traffic: &Traffic) -> Result<(), Failure> {
    let stop = stop_flag()?;
    let any: SocketAddr = match (traffic.from, traffic.to) {
        (Some(from), _) => (from, 0).into(),
        (None, SocketAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        (None, SocketAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Not connected: each packet takes the route and the source of its moment.
    let socket = UdpSocket::bind(any).map_err(|e| format!("bind {any}: {e}"))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(4 << 20))?;

    let (sent, all_in) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut pace = Pace::per_second(traffic.pps);
    let mut refused = 0;
    let arrivals = thread::scope(|scope| {
        let reader = scope.spawn(|| collect(&socket, traffic.to, &sent, &all_in));
        while !stop.load(Ordering::Relaxed) {
            pace.wait();
            let mut packet = [0_u8; PACKET];
            packet[..8].copy_from_slice(&MAGIC);
            packet[8..16].copy_from_slice(&sent.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            refused += u64::from(socket.send_to(&packet, traffic.to).is_err());
        }
        all_in.store(true, Ordering::Relaxed);
        reader.join()
    })
    .map_err(|_| "the reading thread panicked")?;
    let summary = arrivals.summary(&traffic.label, sent.into_inner(), refused, &pace);
    write_summary(&traffic.out, &summary)
}

/// What the reading thread gathers.
#[derive(Default)]
struct Arrivals {
    came_back: Vec<bool>,
    received: u64,
    duplicates: u64,
    seen_as: BTreeSet<String>,
    last: Option<Instant>,
    longest_silence: Duration,
}

/// Reads until every packet is back, or the stragglers' time is over.
fn collect(
    socket: &UdpSocket,
    far_end: SocketAddr,
    sent: &AtomicU64,
    all_sent: &AtomicBool,
) -> Arrivals {
    let mut arrivals = Arrivals { last: Some(Instant::now()), ..Arrivals::default() };
    let mut deadline = None;
    let mut packet = [0_u8; 256];
    loop {
        if all_sent.load(Ordering::Relaxed) {
            let end = *deadline.get_or_insert_with(|| Instant::now() + STRAGGLERS);
            if arrivals.received == sent.load(Ordering::Relaxed) || Instant::now() > end {
                // A silence that lasts to the end is one too.
                if arrivals.received != sent.load(Ordering::Relaxed) {
                    arrivals.note_time(end.checked_sub(STRAGGLERS).unwrap_or(end));
                }
                return arrivals;
            }
        }
        match socket.recv_from(&mut packet) {
            // From elsewhere: a reply with the wrong source is no reply.
            Ok((length, from)) if from == far_end => {
                arrivals.note(&packet[..length], sent.load(Ordering::Relaxed));
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // ICMP's answers to former packets, which are counted as lost.
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

impl Arrivals {
    fn note(&mut self, packet: &[u8], sent: u64) {
        let Some((head, seen)) = packet.split_at_checked(PACKET) else { return };
        let Ok(number) = head[8..16].try_into().map(u64::from_be_bytes) else { return };
        if head[..8] != MAGIC || number >= sent {
            return;
        }
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        if self.came_back.len() <= index {
            self.came_back.resize(index + 1, false);
        }
        if self.came_back[index] {
            self.duplicates += 1;
            return;
        }
        self.came_back[index] = true;
        self.received += 1;
        let seen = String::from_utf8_lossy(seen);
        if !self.seen_as.contains(seen.as_ref()) {
            self.seen_as.insert(seen.into_owned());
        }
        self.note_time(Instant::now());
    }

    fn note_time(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            self.longest_silence = self.longest_silence.max(now.saturating_duration_since(last));
        }
    }

    fn summary(mut self, label: &str, sent: u64, refused: u64, pace: &Pace) -> Probe {
        self.came_back.resize(usize::try_from(sent).unwrap_or(usize::MAX), false);
        let longest_run = self.came_back.split(|back| *back).map(<[bool]>::len).max().unwrap_or(0);
        let run = u32::try_from(longest_run).unwrap_or(u32::MAX);
        Probe {
            label: label.to_owned(),
            sent,
            received: self.received,
            lost: sent - self.received,
            refused,
            duplicates: self.duplicates,
            longest_gap_ms: millis(pace.period() * run),
            longest_silence_ms: millis(self.longest_silence),
            longest_send_stall_ms: millis(pace.longest_stall),
            seen_as: self.seen_as.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(number: u64, seen: &str) -> Vec<u8> {
        let mut packet = vec![0; PACKET];
        packet[..8].copy_from_slice(&MAGIC);
        packet[8..16].copy_from_slice(&number.to_be_bytes());
        packet.extend_from_slice(seen.as_bytes());
        packet
    }

    #[test]
    fn counts_losses_their_longest_run_and_duplicates() {
        let mut arrivals = Arrivals::default();
        for number in [0, 1, 5, 5, 6, 8] {
            arrivals.note(&reply(number, "192.0.2.1"), 12);
        }
        let probe = arrivals.summary("in4", 12, 2, &Pace::per_second(100));
        assert_eq!((probe.received, probe.lost, probe.duplicates, probe.refused), (5, 7, 1, 2));
        // 2, 3, 4 are a run of three, and so are 9, 10, 11 at the end.
        assert!((probe.longest_gap_ms - 30.0).abs() < 0.01, "{probe:?}");
        assert_eq!(probe.seen_as, ["192.0.2.1"]);
    }

    #[test]
    fn a_foreign_or_unsent_number_is_no_arrival() {
        let mut arrivals = Arrivals::default();
        arrivals.note(&reply(7, "192.0.2.1"), 7);
        arrivals.note(b"short", 7);
        arrivals.note(&[0; 80], 7);
        assert_eq!(arrivals.received, 0);
    }
}

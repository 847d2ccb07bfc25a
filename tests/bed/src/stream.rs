//! One TCP connection that talks all the time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bed::summary::Stream;

use crate::Failure;
use crate::options::Traffic;
use crate::sending::{Pace, millis, stop_flag, write_summary};

const MESSAGE: usize = 64;
/// Retransmissions after a short outage come within this time.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// Sends until SIGTERM, waits for what is under way, writes a [`Stream`].
/// A connection that breaks is a result, not a failure; `--from` is not supported.
pub fn run(traffic: &Traffic) -> Result<(), Failure> {
    if traffic.from.is_some() {
        return Err("tcp-stream takes no --from".into());
    }
    let stop = stop_flag()?;
    let mut summary = Stream {
        label: traffic.label.clone(),
        sent: 0,
        received: 0,
        longest_stall_ms: 0.0,
        broken: false,
        error: None,
    };
    if let Err(e) = talk(traffic, &stop, &mut summary) {
        summary.broken = true;
        summary.error = Some(e.to_string());
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(50));
        }
    }
    write_summary(&traffic.out, &summary)
}

fn talk(traffic: &Traffic, stop: &AtomicBool, summary: &mut Stream) -> Result<(), Failure> {
    let mut connection = TcpStream::connect_timeout(&traffic.to, Duration::from_secs(10))?;
    connection.set_nodelay(true)?;
    connection.set_write_timeout(Some(STRAGGLERS * 2))?;
    let reading = connection.try_clone()?;
    reading.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (sent, all_sent) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut pace = Pace::per_second(traffic.pps);
    thread::scope(|scope| {
        let reader = scope.spawn(|| collect(reading, &sent, &all_sent));
        let mut written = Ok(());
        while written.is_ok() && !stop.load(Ordering::Relaxed) && !reader.is_finished() {
            pace.wait();
            written = connection.write_all(&[b'.'; MESSAGE]);
            if written.is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        all_sent.store(true, Ordering::Relaxed);
        let (received, stall, end) = reader.join().map_err(|_| "the reading thread panicked")?;
        summary.sent = sent.load(Ordering::Relaxed);
        summary.received = received / MESSAGE as u64;
        summary.longest_stall_ms = millis(stall);
        written?;
        end
    })
}

/// Bytes that came back, the longest time between two arrivals, and how it ended.
fn collect(
    mut connection: TcpStream,
    sent: &AtomicU64,
    all_sent: &AtomicBool,
) -> (u64, Duration, Result<(), Failure>) {
    let (mut bytes, mut stall, mut last) = (0, Duration::ZERO, Instant::now());
    let mut deadline = None;
    let mut buffer = [0_u8; 4096];
    let end = loop {
        if all_sent.load(Ordering::Relaxed) {
            let end = *deadline.get_or_insert_with(|| Instant::now() + STRAGGLERS);
            if bytes >= sent.load(Ordering::Relaxed) * MESSAGE as u64 {
                break Ok(());
            }
            if Instant::now() > end {
                break Err("messages were still on their way at the end".into());
            }
        }
        match connection.read(&mut buffer) {
            Ok(0) => break Err("the far end closed the connection".into()),
            Ok(length) => {
                bytes += length as u64;
                stall = stall.max(last.elapsed());
                last = Instant::now();
            }
            Err(e) if matches!(e.raw_os_error(), Some(nix::libc::EAGAIN | nix::libc::EINTR)) => {}
            Err(e) => break Err(e.into()),
        }
    };
    (bytes, stall.max(if end.is_err() { last.elapsed() } else { Duration::ZERO }), end)
}

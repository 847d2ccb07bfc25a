//! When to send the next packet, when to stop, and where to put the result.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;

use crate::Failure;

/// How far behind its schedule a sender may be and still catch up with a burst.
/// Further behind (a starved machine) it goes on from now: a burst would overflow
/// queues that no real sender would have filled.
const CATCH_UP: Duration = Duration::from_millis(20);

/// An even rhythm that survives being starved of the processor.
pub struct Pace {
    period: Duration,
    next: Instant,
    last: Option<Instant>,
    /// The longest time between two beats.
    pub longest_stall: Duration,
}

impl Pace {
    pub fn per_second(n: u32) -> Self {
        let period = Duration::from_secs(1) / n;
        Self { period, next: Instant::now(), last: None, longest_stall: Duration::ZERO }
    }

    pub fn period(&self) -> Duration {
        self.period
    }

    /// Sleeps until the next packet is due.
    pub fn wait(&mut self) {
        let mut now = Instant::now();
        if let Some(early) = self.next.checked_duration_since(now) {
            thread::sleep(early);
            now = Instant::now();
        } else if now.duration_since(self.next) > CATCH_UP.max(self.period) {
            self.next = now;
        }
        self.next += self.period;
        if let Some(last) = self.last.replace(now) {
            self.longest_stall = self.longest_stall.max(now.duration_since(last));
        }
    }
}

/// Becomes true at SIGTERM or SIGINT. To be called before any other thread starts.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    thread::spawn(move || {
        if signals.wait().is_ok() {
            raised.store(true, Ordering::Relaxed);
        }
    });
    Ok(flag)
}

/// Writes a summary so that a reader sees all of it or nothing.
pub fn write_summary(out: &Path, summary: &impl Serialize) -> Result<(), Failure> {
    let part = out.with_extension("part");
    fs::write(&part, serde_json::to_vec(summary)?)
        .map_err(|e| format!("write {}: {e}", part.display()))?;
    fs::rename(&part, out).map_err(|e| format!("rename to {}: {e}", out.display()))?;
    Ok(())
}

pub fn millis(d: Duration) -> f64 {
    // Tenths are enough, and keep the JSON short.
    (d.as_secs_f64() * 10_000.0).round() / 10.0
}

//! How often somebody else's changes to files are put right, and when that ends.

use std::time::Duration;

/// So many times within [`WINDOW`], then no more.
pub const MOST: usize = 5;
/// See [`MOST`].
pub const WINDOW: Duration = Duration::from_secs(300);
/// The first wait after a repair; each next one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(60);

/// When the next repair may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// At once.
    Now,
    /// Not before this time.
    At(Duration),
    /// Not at all: somebody keeps changing it back.
    Never,
}

/// What was repaired, and when; on a clock of the caller's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rivalry {
    repairs: Vec<Duration>,
    is_over: bool,
}

impl Rivalry {
    /// There is something to repair: whether it may be, and it counts as done where it may.
    pub fn turn(&mut self, now: Duration) -> Turn {
        if self.is_over {
            return Turn::Never;
        }
        self.repairs.retain(|then| now.saturating_sub(*then) < WINDOW);
        let count = self.repairs.len();
        if count >= MOST {
            self.is_over = true;
            return Turn::Never;
        }
        let due = self.repairs.last().map(|last| last.saturating_add(wait(count)));
        if let Some(due) = due.filter(|due| *due > now) {
            return Turn::At(due);
        }
        self.repairs.push(now);
        Turn::Now
    }

    /// All is as it should be. Where a rivalry had ended, the rival has given in.
    pub fn is_well(&mut self) {
        if self.is_over {
            *self = Self::default();
        }
    }
}

fn wait(repairs: usize) -> Duration {
    let doublings = u32::try_from(repairs.saturating_sub(1)).unwrap_or(u32::MAX).min(6);
    FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn each_repair_waits_twice_as_long_and_the_sixth_never_comes() {
        let mut rivalry = Rivalry::default();
        let mut now = seconds(100);
        let mut waits = Vec::new();
        for _ in 0..MOST {
            while let Turn::At(due) = rivalry.turn(now) {
                waits.push(due.saturating_sub(now).as_secs());
                now = due;
            }
        }
        assert_eq!(waits, [1, 2, 4, 8]);
        assert_eq!(rivalry.turn(now + seconds(1)), Turn::Never);
        assert_eq!(rivalry.turn(now + WINDOW), Turn::Never, "it is not taken up again");
        rivalry.is_well();
        assert_eq!(rivalry.turn(now + WINDOW), Turn::Now);
    }

    #[test]
    fn rare_changes_are_put_right_for_ever() {
        let mut rivalry = Rivalry::default();
        for round in 0..100 {
            assert_eq!(rivalry.turn(seconds(round * 61)), Turn::Now, "{round}");
            rivalry.is_well();
        }
    }
}

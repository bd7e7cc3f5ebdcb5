//! The time of day where the person is.
//!
//! Owns the time zone, and how a message's time is written. Reads the clock for the screen.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::base::clock::Clock;

/// A clock on the wall.
#[derive(Debug)]
pub struct Face {
    clock: Clock,
    zone: TimeZone,
}

impl Face {
    /// One that shows the machine's own time.
    pub fn here() -> Face {
        Face { clock: Clock::start(), zone: TimeZone::system() }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.clock.now().wall_ms
    }

    /// Hours and minutes, or of another day its month and day: five columns.
    pub fn show(&self, time_ms: u64) -> String {
        show_in(&self.zone, time_ms, self.now_ms())
    }
}

fn show_in(zone: &TimeZone, time_ms: u64, now_ms: u64) -> String {
    let at = |ms: u64| {
        let ms = i64::try_from(ms).ok()?;
        Some(Timestamp::from_millisecond(ms).ok()?.to_zoned(zone.clone()))
    };
    match (at(time_ms), at(now_ms)) {
        (Some(time), Some(now)) if time.date() == now.date() => {
            format!("{:02}:{:02}", time.hour(), time.minute())
        }
        (Some(time), _) => format!("{:02}-{:02}", time.month(), time.day()),
        (None, _) => "--:--".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn today_has_an_hour_and_every_other_day_a_date() {
        let day = 86_400_000;
        let now = 20_000 * day + 15 * 3_600_000;
        assert_eq!(show_in(&TimeZone::UTC, now - 54_000_000 + 240_000, now), "00:04");
        assert_eq!(show_in(&TimeZone::UTC, now - day, now), "10-03");
        assert_eq!(show_in(&TimeZone::UTC, u64::MAX, now), "--:--");
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(show_in(&zone, now, now), "17:00");
    }
}

//! Closes as a table for people.
//!
//! Owns the columns, their widths and how numbers are written. Never asks for anything.

use std::io::{self, Write};

use super::closes::Printer;
use crate::engine::close_record::CloseLine;
use crate::wire::http::civil;

/// The columns, and whether they are numbers, which stand to the right.
const COLUMNS: [(&str, bool); 13] = [
    ("TIME (UTC)", false),
    ("REASON", false),
    ("USER", false),
    ("ADDRESS", false),
    ("SPEAKS", false),
    ("OPEN", true),
    ("SILENT", true),
    ("IN", true),
    ("OUT", true),
    ("QUEUED", true),
    ("UNACKED", true),
    ("RTT", true),
    ("RESENT", true),
];

type Row = [String; COLUMNS.len()];

/// A table that goes on: its columns only become wider.
#[derive(Debug, Default)]
pub(super) struct CloseTable {
    widths: [usize; COLUMNS.len()],
    has_head: bool,
}

impl Printer for CloseTable {
    fn print(&mut self, out: &mut dyn Write, closes: &[CloseLine]) -> io::Result<()> {
        let mut rows: Vec<Row> = closes.iter().map(row).collect();
        if !self.has_head {
            self.has_head = true;
            rows.insert(0, COLUMNS.map(|(name, _)| name.to_owned()));
        }
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        rows.iter().try_for_each(|row| self.print_row(out, row))
    }
}

impl CloseTable {
    fn print_row(&self, out: &mut dyn Write, row: &Row) -> io::Result<()> {
        let mut line = String::new();
        for ((cell, (_, is_number)), &width) in row.iter().zip(COLUMNS).zip(&self.widths) {
            line +=
                &if is_number { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
        }
        writeln!(out, "{}", line.trim_end())
    }
}

fn row(close: &CloseLine) -> Row {
    let known = |number: Option<u32>, show: &dyn Fn(u64) -> String| {
        number.map_or_else(|| "-".to_owned(), |number| show(number.into()))
    };
    let bytes = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), size);
    [
        instant(close.time_ms),
        close.reason.clone(),
        close.user.clone().unwrap_or_else(|| "-".to_owned()),
        close.peer.to_string(),
        close.speech.clone(),
        age(close.age_ms),
        age(close.silent_ms.into()),
        bytes(close.bytes_in),
        bytes(close.bytes_out),
        size(close.queued.into()),
        known(close.send_queue, &size),
        known(close.round_trip_us, &round_trip),
        known(close.retransmits, &|count| count.to_string()),
    ]
}

/// A day and a time of day, to the millisecond.
fn instant(ms: u64) -> String {
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    let ms = of_day % 1_000;
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}")
}

/// A duration in its two largest units.
fn age(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}.{}s", ms % 1_000 / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number of bytes, to three digits where they are many.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("", 1)];
    let (unit, scale) = UNITS.into_iter().find(|(_, scale)| bytes >= *scale).unwrap_or(("", 1));
    let tenths = bytes % scale * 10 / scale;
    match bytes / scale {
        whole if scale > 1 && whole < 100 => format!("{whole}.{tenths}{unit}"),
        whole => format!("{whole}{unit}"),
    }
}

fn round_trip(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{}ms", us / 1_000, us % 1_000 / 100),
        10_000..1_000_000 => format!("{}ms", us / 1_000),
        _ => format!("{}.{}s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close() -> CloseLine {
        CloseLine {
            time_ms: 1_795_250_096_123,
            worker: 0,
            number: 1,
            reason: "heartbeat_timeout".into(),
            peer: "192.0.2.7:40112".parse().unwrap(),
            user: Some("ann".into()),
            speech: "native".into(),
            age_ms: 3_723_400,
            bytes_in: Some(1_536),
            bytes_out: Some(12_345_678),
            queued: 0,
            send_queue: Some(75),
            unacknowledged: Some(3),
            silent_ms: 90_040,
            round_trip_us: Some(41_700),
            heartbeat_ms: None,
            retransmits: Some(9),
            peer_window: Some(65_536),
        }
    }

    fn printed(table: &mut CloseTable, closes: &[CloseLine]) -> String {
        let mut out = Vec::new();
        table.print(&mut out, closes).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_line_up_and_what_is_not_known_is_a_dash() {
        let mute = CloseLine {
            reason: "reset".into(),
            user: None,
            speech: "none".into(),
            bytes_in: None,
            bytes_out: None,
            send_queue: None,
            round_trip_us: None,
            retransmits: None,
            ..close()
        };
        let mut table = CloseTable::default();
        let rows = [
            "TIME (UTC)               REASON             USER  ADDRESS          SPEAKS   OPEN",
            "2026-11-21 08:34:56.123  heartbeat_timeout  ann   192.0.2.7:40112  native  1h02m",
            "2026-11-21 08:34:56.123  reset              -     192.0.2.7:40112  none    1h02m",
        ];
        let numbers = [
            "  SILENT    IN    OUT  QUEUED  UNACKED   RTT  RESENT\n",
            "   1m30s  1.5K  11.7M       0       75  41ms       9\n",
            "   1m30s     -      -       0        -     -       -\n",
        ];
        let expected: String = rows.iter().zip(numbers).map(|(a, b)| format!("{a}{b}")).collect();
        assert_eq!(printed(&mut table, &[close(), mute.clone()]), expected);
        let more = printed(&mut table, &[mute]);
        assert_eq!(more.lines().count(), 1, "one head is enough");
        assert_eq!(more.find("reset"), Some(25), "and the columns stay where they are");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 999, 61_000].map(age), ["0.0s", "0.9s", "1m01s"]);
        assert_eq!([86_399_999, 90_000_000].map(age), ["23h59m", "1d01h"]);
        assert_eq!([0, 1_023, 1_024, 102_400].map(size), ["0", "1023", "1.0K", "100K"]);
        assert_eq!(size(5 << 30), "5.0G");
        assert_eq!([90, 12_345, 2_345_678].map(round_trip), ["0.0ms", "12ms", "2.3s"]);
    }
}

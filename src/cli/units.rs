//! Durations and sizes as people write them.
//!
//! Owns their spelling in both directions. Never judges a value: the options do.

use std::time::Duration;

/// Units of time, the longest first, in milliseconds.
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size in bytes, those that are written first.
const SIZES: [(&str, u64); 10] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
];

/// So many of them are written where they are exact; the last of them is.
const SIZES_SHOWN: usize = 7;

/// Reads `30s`, `1m30s`, `500ms` or a plain number of seconds.
///
/// # Errors
/// One line that says what would have been understood.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unclear = || format!("`{text}` is no duration; write it like 30s, 1m30s or 500ms");
    if let Ok(seconds) = text.parse::<u64>() {
        return seconds.checked_mul(1_000).map(Duration::from_millis).ok_or_else(unclear);
    }
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut previous = u64::MAX;
    while !rest.is_empty() {
        let (number, tail) = leading_number(rest).ok_or_else(unclear)?;
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let &(_, unit_ms) = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(unclear)?;
        // 30s1m is a slip of the hand, and so is 1s1s.
        if unit_ms >= previous {
            return Err(unclear());
        }
        previous = unit_ms;
        let part = number.checked_mul(unit_ms).ok_or_else(unclear)?;
        total_ms = total_ms.checked_add(part).ok_or_else(unclear)?;
        rest = tail;
    }
    if text.is_empty() { Err(unclear()) } else { Ok(Duration::from_millis(total_ms)) }
}

/// Writes a duration so that [`duration`] reads it back.
pub fn show_duration(duration: Duration) -> String {
    let mut rest = duration.as_millis() as u64;
    let mut text = String::new();
    for (name, unit) in TIMES {
        if rest >= unit {
            text += &format!("{}{name}", rest / unit);
            rest %= unit;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Reads `64KiB`, `1MB`, `1M` (which is `1MiB`) or a plain number of bytes. Case does not matter.
///
/// # Errors
/// One line that says what would have been understood.
pub fn size(text: &str) -> Result<usize, String> {
    let unclear = || format!("`{text}` is no size; write it like 64KiB, 1MB or 65536");
    let (number, unit) = leading_number(text).ok_or_else(unclear)?;
    let unit = unit.trim_start();
    let factor = match unit {
        "" => 1,
        _ => {
            let known = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
            known.ok_or_else(unclear)?.1
        }
    };
    let bytes = number.checked_mul(factor).ok_or_else(unclear)?;
    usize::try_from(bytes).map_err(|_| unclear())
}

/// Writes a size so that [`size`] reads it back.
pub fn show_size(bytes: usize) -> String {
    let bytes = bytes as u64;
    let is_exact = |(_, unit): &&(&str, u64)| bytes >= *unit && bytes.is_multiple_of(*unit);
    match SIZES.iter().take(SIZES_SHOWN).find(is_exact) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("2h", 7_200_000),
            ("1d1h1m1s1ms", 90_061_001),
            ("0", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "30x", "1.5s", "-1s", "30s1m", "1s1s", "30 s", "99999999999999999999"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["18446744073709551615", "18446744073709551615d"] {
            assert!(duration(text).is_err(), "{text} is more milliseconds than are counted");
        }
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64kib", 65_536),
            ("64K", 65_536),
            ("1MB", 1_000_000),
            ("1 MiB", 1 << 20),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "1.5MiB", "-1", "1TB", "1KiBs", "18446744073709551615K"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ms in [0, 1, 500, 1_000, 90_000, 90_061_001] {
            let value = Duration::from_millis(ms);
            assert_eq!(duration(&show_duration(value)), Ok(value));
        }
        for bytes in [0, 1, 1_000, 1_024, 65_536, 1 << 20, (1 << 20) + 1] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_duration(Duration::from_secs(90)), "1m30s");
        assert_eq!(show_size(65_536), "64KiB");
    }
}

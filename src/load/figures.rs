//! Figures as people read them.
//!
//! Owns how counts, times and bytes are written in the live line, the table and the page. Never
//! rounds what a program reads: JSON has plain numbers.

/// A number with its thousands set apart.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Nanoseconds as people read them.
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns <= 0.0 => "-".into(),
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e4 => format!("{:.2} µs", ns / 1e3),
        ns if ns < 1e6 => format!("{:.0} µs", ns / 1e3),
        ns if ns < 1e7 => format!("{:.2} ms", ns / 1e6),
        ns if ns < 1e9 => format!("{:.0} ms", ns / 1e6),
        ns => format!("{:.2} s", ns / 1e9),
    }
}

/// Bytes as people read them.
pub fn bytes(count: f64) -> String {
    match count {
        count if count < 10_240.0 => format!("{count:.0} B"),
        count if count < 1_048_576.0 => format!("{:.1} KiB", count / 1_024.0),
        count if count < 1_073_741_824.0 => format!("{:.1} MiB", count / 1_048_576.0),
        count => format!("{:.1} GiB", count / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(thousands(12), "12");
        assert_eq!(time(1_234.0), "1.23 µs");
        assert_eq!(time(12_345_678.0), "12 ms");
        assert_eq!(bytes(2_000.0), "2000 B");
        assert_eq!(bytes(3.0 * 1_048_576.0), "3.0 MiB");
    }
}

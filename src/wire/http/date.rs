//! The time as HTTP writes it.
//!
//! Owns the one format that may be sent (RFC 9110 section 5.6.7). Never reads a clock.

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// Days from 1 March of the year 0 to 1 January 1970, in the Gregorian calendar.
const DAYS_TO_1970: u64 = 719_468;
/// Days of 400 years, after which the calendar repeats itself.
const DAYS_OF_ERA: u64 = 146_097;

/// Appends the instant `ms` milliseconds after the start of 1970 (UTC), as in
/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn append_date(out: &mut Vec<u8>, ms: u64) {
    let (days, second) = (ms / 86_400_000, ms / 1_000 % 86_400);
    let (year, month, day) = civil(days);
    out.extend_from_slice(WEEKDAYS[(days % 7) as usize].as_bytes());
    out.extend_from_slice(b", ");
    two_digits(out, day);
    out.push(b' ');
    out.extend_from_slice(MONTHS[month as usize - 1].as_bytes());
    out.push(b' ');
    two_digits(out, year / 100 % 100);
    two_digits(out, year % 100);
    for (separator, part) in [(b' ', second / 3_600), (b':', second / 60 % 60), (b':', second % 60)]
    {
        out.push(separator);
        two_digits(out, part);
    }
    out.extend_from_slice(b" GMT");
}

/// Year, month and day of the month, so many days after 1 January 1970. Years are counted from
/// March, so that the leap day is the last one.
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let day_of_era = days % DAYS_OF_ERA;
    let leap_days = day_of_era / 1_460 + day_of_era / (DAYS_OF_ERA - 1);
    let year_of_era = (day_of_era + day_of_era / 36_524 - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_from_march + 2) / 5 + 1;
    let month = if months_from_march < 10 { months_from_march + 3 } else { months_from_march - 9 };
    let year = year_of_era + days / DAYS_OF_ERA * 400 + u64::from(month <= 2);
    (year, month, day)
}

fn two_digits(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&[b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]);
}

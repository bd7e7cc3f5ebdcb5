//! The options for a server that has more to do than it can.
//!
//! Owns the marks at which a worker begins and ceases to be strained and overloaded, and how they
//! are written. Called by [`options`](super::options).

use std::time::Duration;

use clap::Args;

use super::units;
use crate::base::limits::Limits;
use crate::base::pressure::Watermarks;

const OVERLOAD: &str = "Overload";
/// What stands for marks that are never come to.
const OFF: &str = "off";

/// When a worker is strained, and when overloaded.
#[derive(Args, Clone, Debug)]
pub struct OverloadOptions {
    /// Open descriptors of a worker, in per cent of the limit on open files: from the second mark
    /// on new sessions are refused, from the third on nobody is accepted. The latter ends below
    /// the second, the former below the first. `off` for none
    #[arg(long, value_name = "LOW,SOFT,HIGH", value_parser = shares, default_value = "96%,98%,99%")]
    #[arg(env = "COREBEAT_OVERLOAD_DESCRIPTORS", hide_env = true, help_heading = OVERLOAD)]
    pub overload_descriptors: Watermarks,

    /// Memory in use, in per cent of what may be used. What can wait is left out as well
    #[arg(long, value_name = "LOW,SOFT,HIGH", value_parser = shares, default_value = "85%,90%,95%")]
    #[arg(env = "COREBEAT_OVERLOAD_MEMORY", hide_env = true, help_heading = OVERLOAD)]
    pub overload_memory: Watermarks,

    /// Memory that the process may take; 0 is no limit [default: what its control group or the
    /// machine has]
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    #[arg(env = "COREBEAT_MEMORY_LIMIT", hide_env = true, help_heading = OVERLOAD)]
    pub memory_limit: Option<usize>,

    /// How long what arrives waits for a worker's loop, a mean over about a second. What can wait
    /// is left out as well
    #[arg(long, value_name = "LOW,SOFT,HIGH", value_parser = times)]
    #[arg(default_value = "100ms,250ms,1s")]
    #[arg(env = "COREBEAT_OVERLOAD_LAG", hide_env = true, help_heading = OVERLOAD)]
    pub overload_lag: Watermarks,
}

impl OverloadOptions {
    /// Puts them into `limits`.
    pub fn apply(&self, limits: &mut Limits) {
        limits.overload_descriptors = self.overload_descriptors;
        limits.overload_memory = self.overload_memory;
        limits.memory_limit = self.memory_limit.map(|bytes| bytes as u64);
        limits.overload_lag = self.overload_lag;
    }
}

/// Reads `96%,98%,99%` or `off`.
fn shares(text: &str) -> Result<Watermarks, String> {
    let unclear = || format!("`{text}` is no marks; write them like 80%,90%,95%, or off");
    marks(text, unclear, |share| share.strip_suffix('%').unwrap_or(share).parse().ok())
}

/// Reads `100ms,250ms,1s` or `off`, in microseconds.
fn times(text: &str) -> Result<Watermarks, String> {
    let unclear = || format!("`{text}` is no marks; write them like 100ms,250ms,1s, or off");
    marks(text, unclear, |time| match time.strip_suffix("us") {
        Some(microseconds) => microseconds.parse().ok(),
        None => units::duration(time).ok().map(|time: Duration| time.as_micros() as u64),
    })
}

fn marks(
    text: &str,
    unclear: impl Fn() -> String,
    one: impl Fn(&str) -> Option<u64>,
) -> Result<Watermarks, String> {
    if text == OFF {
        return Ok(Watermarks::OFF);
    }
    let read: Option<Vec<u64>> = text.split(',').map(|mark| one(mark.trim())).collect();
    let Some([low, soft, high]) = read.as_deref() else { return Err(unclear()) };
    let marks = Watermarks { low: *low, soft: *soft, high: *high };
    if !marks.are_in_order() {
        return Err(format!("`{text}`: each mark must be above the one before it"));
    }
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_people_write_them() {
        let shares_of = |low, soft, high| Ok(Watermarks { low, soft, high });
        assert_eq!(shares("80%,90%,95%"), shares_of(80, 90, 95));
        assert_eq!(shares("80, 90, 95"), shares_of(80, 90, 95));
        assert_eq!(times("100ms,1s,1m"), shares_of(100_000, 1_000_000, 60_000_000));
        assert_eq!(times("5us,10us,1ms"), shares_of(5, 10, 1_000));
        assert_eq!((shares("off"), times("off")), (Ok(Watermarks::OFF), Ok(Watermarks::OFF)));
    }

    #[test]
    fn marks_that_are_none_are_refused_with_an_example() {
        for text in ["", "90%", "80%,90%", "80%,90%,95%,99%", "a,b,c", "-1%,2%,3%"] {
            assert!(shares(text).unwrap_err().ends_with("write them like 80%,90%,95%, or off"));
        }
        assert!(times("1,2,soon").unwrap_err().ends_with("like 100ms,250ms,1s, or off"));
        for text in ["90%,90%,95%", "95%,90%,80%"] {
            assert!(shares(text).unwrap_err().ends_with("above the one before it"));
        }
    }
}

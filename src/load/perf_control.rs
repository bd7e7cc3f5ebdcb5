//! Tells a profiler when the measured time begins and ends.
//!
//! Owns the pipes on which `perf record` and `perf stat` listen when they are started with
//! `--delay=-1 --control fifo:PATH`, so that neither ramp nor warm-up is in a profile. Never starts
//! a profiler or reads from one. The conductor calls it at both ends of the measured time.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;

/// The pipes of all profilers that want to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerfControl {
    /// Named pipes, or files that collect the words.
    pub pipes: Vec<PathBuf>,
}

impl PerfControl {
    /// The measured time begins.
    ///
    /// # Errors
    /// One line that names the pipe at fault.
    pub fn enable(&self) -> Result<(), String> {
        self.tell("enable\n")
    }

    /// It is over.
    ///
    /// # Errors
    /// As [`PerfControl::enable`].
    pub fn disable(&self) -> Result<(), String> {
        self.tell("disable\n")
    }

    fn tell(&self, word: &str) -> Result<(), String> {
        let tell_one = |pipe: &PathBuf| -> io::Result<()> {
            // Opened for each word, because perf may be started after the generator; for both
            // directions, because opening a pipe for one of them waits for the other.
            OpenOptions::new().read(true).append(true).open(pipe)?.write_all(word.as_bytes())
        };
        self.pipes.iter().try_for_each(|pipe| {
            tell_one(pipe).map_err(|error| {
                format!("--perf-control {}: {error}; make it with mkfifo", pipe.display())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_hear_both_words_and_what_is_not_there_is_refused() {
        let name = format!("corebeat-perf-control-{}", std::process::id());
        let paths = ["a", "b"].map(|end| std::env::temp_dir().join(format!("{name}-{end}")));
        let control = PerfControl { pipes: paths.to_vec() };
        let refusal = control.enable().unwrap_err();
        assert!(refusal.contains("--perf-control") && refusal.contains("mkfifo"), "{refusal}");
        assert!(!paths[0].exists(), "nothing is created");
        for path in &paths {
            std::fs::write(path, "").unwrap();
        }
        control.enable().unwrap();
        control.disable().unwrap();
        for path in &paths {
            assert_eq!(std::fs::read_to_string(path).unwrap(), "enable\ndisable\n");
            std::fs::remove_file(path).unwrap();
        }
    }
}

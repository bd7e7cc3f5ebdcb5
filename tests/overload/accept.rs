//! A system that has nothing left to accept a connection with: no file, no memory, no buffer.
//!
//! The server is started behind a small library (`accept.c`), by which its accepts fail as the
//! kernel's would. Taking these things away from the machine would take them from everybody on it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::common::preload::make_library;
use super::common::process::Corebeat;
use super::common::{GUARD, Native, WELCOME, eventually};
use super::{IDLE_HUNDREDTHS, Signal, count, idle_hundredths, knock, talk};

/// Those who wait in the kernel while nobody can be accepted.
const CROWD: usize = 30;
/// Accepts of one worker that may fail in a second in which nobody comes or goes: two in each
/// tenth, of which the second one is with the spare descriptor, and some for a machine that is
/// late.
const TRIES_PER_SECOND: u32 = 40;

/// A folder with the library and the page by which it is told what to do.
struct Failures {
    folder: PathBuf,
    page: File,
}

impl Failures {
    fn none() -> Failures {
        let name = format!("corebeat-accept-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        make_library("overload/accept.c", &folder.join("accept.so"));
        std::fs::write(folder.join("page"), [0; 8]).unwrap();
        let page = File::options().read(true).write(true).open(folder.join("page")).unwrap();
        Failures { folder, page }
    }

    fn start(&self, options: &[&str]) -> Corebeat {
        let (library, page) = (self.folder.join("accept.so"), self.folder.join("page"));
        let environment = [("LD_PRELOAD", library), ("ACCEPT_FAILURES", page)];
        Corebeat::start_within(None, options, &environment, None)
    }

    /// Every accept fails so from now on; none does with 0.
    fn set(&self, error: i32) {
        self.page.write_all_at(&error.to_ne_bytes(), 0).unwrap();
    }

    /// How many have failed.
    fn tries(&self) -> u32 {
        let mut tries = [0; 4];
        self.page.read_exact_at(&mut tries, 4).unwrap();
        u32::from_ne_bytes(tries)
    }
}

impl Drop for Failures {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn without_files_memory_or_buffers_for_a_connection_they_wait_and_all_goes_on_by_itself() {
    const WORKERS: u32 = 2;
    let failures = Failures::none();
    let program = failures.start(&["--workers", "2"]);
    let mut ann = Native::enter(program.address, "ann", "lobby");
    let mut bob = Native::enter(program.address, "bob", "lobby");
    for (error, words) in [
        (Errno::NFILE, "Too many open files in system"),
        (Errno::NOMEM, "Cannot allocate memory"),
        (Errno::NOBUFS, "No buffer space available"),
    ] {
        program.lines_so_far();
        failures.set(error.raw_os_error());
        let began = Instant::now();
        let mut crowd: Vec<Native> = (0..CROWD).map(|_| knock(program.address, "late")).collect();
        let line = program.wait_for_line("could not take");
        assert!(line.contains(words), "{line}");
        let (tries, from) = (failures.tries(), Instant::now());
        let spent = idle_hundredths(&program, &crowd[0]);
        let tries = failures.tries() - tries;
        let most = WORKERS * TRIES_PER_SECOND * (from.elapsed().as_secs() as u32).max(1);
        println!("{words}: {spent} hundredths of a second used in one, {tries} tries");
        assert!(spent < IDLE_HUNDREDTHS, "{spent} hundredths of a second: a loop spins");
        assert!((2..=most).contains(&tries), "{tries} tries in a second");
        talk(&mut ann, &mut bob, words.as_bytes());
        let logged = program.lines_so_far();
        let logged = 1 + logged.iter().filter(|line| line.contains("could not take")).count();
        let most = WORKERS as usize * (1 + began.elapsed().as_secs() as usize);
        assert!(logged <= most, "{logged} lines, at most {most}");
        failures.set(0);
        for late in &mut crowd {
            late.expect(WELCOME);
        }
    }
    talk(&mut bob, &mut ann, b"all the time");
    program.signal(Signal::TERM);
    drop((ann, bob));
    let last = program.wait_for_line("stopped after");
    assert_eq!(count(&last, "opened"), 2 + 3 * CROWD as u32, "nobody was let go: {last}");
    let failed = count(&last, "accept_failures");
    assert!((3..=failures.tries()).contains(&failed), "{failed} of {}", failures.tries());
    assert!(!last.contains("accept_closed"), "{last}");
}

#[test]
fn a_command_that_could_not_be_accepted_is_answered_when_it_can() {
    let failures = Failures::none();
    let admin = failures.folder.join("admin");
    let program = failures.start(&["--workers", "1", "--admin", admin.to_str().unwrap()]);
    failures.set(Errno::NFILE.raw_os_error());
    let mut command = UnixStream::connect(&admin).unwrap();
    command.set_read_timeout(Some(GUARD)).unwrap();
    command.write_all(b"ping\n").unwrap();
    eventually("its accept fails", || failures.tries() > 0);
    failures.set(0);
    // Nothing else happens to the server.
    let mut answer = [0; 1];
    std::io::Read::read_exact(&mut command, &mut answer).expect("an answer");
    assert_eq!(&answer, b"{");
    // And one that fails for long makes nobody spin.
    failures.set(Errno::NFILE.raw_os_error());
    let (before, from) = (failures.tries(), Instant::now());
    let mut command = UnixStream::connect(&admin).unwrap();
    command.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let error = std::io::Read::read_exact(&mut command, &mut answer).expect_err("nobody answers");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let tries = failures.tries() - before;
    let most = TRIES_PER_SECOND * (from.elapsed().as_secs() as u32).max(1);
    assert!((1..=most).contains(&tries), "{tries} tries in a second");
    drop(program);
}

//! The terminal itself.
//!
//! Owns its mode: raw, on the alternate screen, with pastes marked; and that it is left as it was
//! found, whatever ends or suspends the program's use of it. Never draws.

use std::io::{self, Write};

use nix::unistd::{getpgid, getpgrp, getppid, getsid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use signal_hook::consts::SIGTSTP;
use signal_hook::low_level::emulate_default_handler;

/// Alternate screen, marked pastes.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?2004h\x1b[2J";
/// All of it taken back, with the cursor shown.
const LEAVE: &[u8] = b"\x1b[?2026l\x1b[0m\x1b[?2004l\x1b[?25h\x1b[?1049l";

/// A terminal in raw mode. Dropping it gives it back.
#[derive(Debug)]
pub struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Takes the terminal that standard input and output are.
    ///
    /// # Errors
    /// Where they are none.
    pub fn take() -> io::Result<Terminal> {
        let terminal = Terminal { before: tcgetattr(io::stdin())? };
        terminal.take_again()?;
        Ok(terminal)
    }

    /// Takes it once more, from a shell that has used it meanwhile, as SIGCONT asks for. Nothing is
    /// on the screen then.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn take_again(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        self.write(ENTER)
    }

    fn give_back(&self) -> io::Result<()> {
        self.write(LEAVE)?;
        Ok(tcsetattr(io::stdin(), OptionalActions::Now, &self.before)?)
    }

    /// Leaves the terminal to the shell, and comes back when the process is continued. SIGCONT is
    /// pending then.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn suspend(&self) -> io::Result<()> {
        // Where no shell is there to continue it, the process would be stopped for good.
        if is_job() {
            self.give_back()?;
            emulate_default_handler(SIGTSTP)?;
        }
        Ok(())
    }

    /// Columns and rows; of a terminal that does not say, 80 and 24.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (80, 24),
        }
    }

    /// Writes and flushes.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = self.give_back();
    }
}

/// Whether the parent is a shell that started this process as a job: of the same session, and in
/// another process group.
///
/// What is outside of this process's namespace has the number 0. rustix asserts that nothing has;
/// to nix it is a number like others, and a parent that has it is asked for as this process itself.
fn is_job() -> bool {
    let parent = Some(getppid());
    getsid(parent) == getsid(None) && getpgid(parent) != Ok(getpgrp())
}

/// Reads what is there on standard input, without waiting: none where nothing is, and an empty
/// slice at its end.
///
/// # Errors
/// Those of the read.
pub fn read_ready(buffer: &mut [u8]) -> io::Result<Option<&[u8]>> {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut fds, Some(&now)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::io::read(&stdin, &mut *buffer) {
        Ok(count) => Ok(Some(&buffer[..count])),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(None),
        // The other side of a terminal has hung up.
        Err(rustix::io::Errno::IO) => Ok(Some(&buffer[..0])),
        Err(error) => Err(error.into()),
    }
}

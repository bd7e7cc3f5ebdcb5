//! The terminal itself.
//!
//! Owns its mode: raw, on the alternate screen, with pastes marked; and that it is left as it was
//! found, whatever ends the program's use of it. Never draws.

use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

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
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        let terminal = Terminal { before };
        terminal.write(ENTER)?;
        Ok(terminal)
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
        let _ = self.write(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
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

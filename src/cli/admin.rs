//! Commands that speak with a running server.
//!
//! Owns where they find it, the conversation, and how its answers become lines. Never knows what an
//! answer means. Subcommands such as `corebeat admin` ask through [`ServerToAsk`].

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{BROKEN, DONE, complain};
use crate::engine::predecessor::error_of;
use crate::net::admin_socket::{self, Place};

const COMMANDS: &str = "Commands";
/// What `--admin` says for no socket.
const OFF: &str = "off";
/// A server that answers nothing for so long is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stands below the options in the help.
pub(super) const HELP: &str = "\
Examples:
  corebeat admin ping                         is the server on port 8080 there, and what is it?
  corebeat admin --port 7000 counters         a line of JSON for each worker, and one for all
  corebeat admin --admin /run/corebeat.sock counters";

/// Where a server takes commands.
#[derive(Args, Clone, Debug)]
pub struct AdminOption {
    /// Unix socket for the commands of operators, or `off` for none. Whoever may open it may ask
    /// [default: a place of the user, by the port]
    #[arg(long, value_name = "PATH")]
    #[arg(env = "COREBEAT_ADMIN", hide_env = true, help_heading = COMMANDS)]
    pub admin: Option<PathBuf>,
}

impl AdminOption {
    /// Where that is.
    pub fn place(&self) -> Place {
        match &self.admin {
            None => Place::Usual,
            Some(path) if path == Path::new(OFF) => Place::Off,
            Some(path) => Place::At(path.clone()),
        }
    }
}

/// Which server a command asks.
#[derive(Args, Clone, Debug)]
pub struct ServerToAsk {
    /// The port that the server listens on, by which its socket is found
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,

    /// The server's socket, where it was given one by --admin
    #[arg(long, value_name = "PATH", env = "COREBEAT_ADMIN", hide_env = true)]
    pub admin: Option<PathBuf>,
}

/// `corebeat admin`.
#[derive(Args, Clone, Debug)]
pub struct AdminCommand {
    /// Which server.
    #[command(flatten)]
    pub server: ServerToAsk,

    /// What to ask: ping, counters or closes
    #[arg(value_name = "REQUEST", required = true)]
    pub request: Vec<String>,
}

/// Prints the answer as it comes. Returns the exit code.
pub(super) fn admin(command: &AdminCommand) -> u8 {
    let mut conversation = match command.server.connect() {
        Ok(conversation) => conversation,
        Err(refusal) => return complain(&refusal),
    };
    let mut out = io::stdout().lock();
    let told = conversation.ask(&command.request.join(" "), |line| {
        // A reader that has hung up has read enough.
        let _ = writeln!(out, "{line}");
    });
    match told {
        Ok(()) => DONE,
        Err(AskError::Refused(why)) => complain(&why),
        Err(AskError::Broken(error)) => {
            complain(&format!("the server did not answer: {error}"));
            BROKEN
        }
    }
}

/// Why there was no answer, or not all of it.
#[derive(Debug)]
pub enum AskError {
    /// The server says why.
    Refused(String),
    /// The conversation broke.
    Broken(io::Error),
}

/// A conversation with a server.
#[derive(Debug)]
pub struct Conversation {
    stream: BufReader<UnixStream>,
}

impl ServerToAsk {
    /// Connects to the server.
    ///
    /// # Errors
    /// One line that says where none was found, and the remedy.
    pub fn connect(&self) -> Result<Conversation, String> {
        let paths = match &self.admin {
            Some(path) => vec![path.clone()],
            None => admin_socket::usual_paths(self.port),
        };
        let mut refusal = String::new();
        for path in &paths {
            match admin_socket::connect(path) {
                Ok(stream) => return Conversation::new(stream).map_err(|e| e.to_string()),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !refusal.is_empty() => {}
                Err(error) => refusal = self.refusal(path, &error),
            }
        }
        Err(refusal)
    }

    fn refusal(&self, path: &Path, error: &io::Error) -> String {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
                "no server takes commands at {path}; name its port (--port) or the path that it \
                 was started with (--admin)"
            ),
            io::ErrorKind::PermissionDenied => {
                format!("{path} is another user's; run this as the user of the server")
            }
            _ => format!("cannot ask at {path}: {error}; name another path with --admin"),
        }
    }
}

impl Conversation {
    fn new(stream: UnixStream) -> io::Result<Conversation> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Conversation { stream: BufReader::new(stream) })
    }

    /// Asks, and hands each line of the answer (an object of JSON) to `tell`.
    ///
    /// # Errors
    /// See [`AskError`]. Lines may have been told before.
    pub fn ask(&mut self, request: &str, mut tell: impl FnMut(&str)) -> Result<(), AskError> {
        let line = format!("{}\n", request.replace('\n', " "));
        self.stream.get_mut().write_all(line.as_bytes()).map_err(AskError::Broken)?;
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).map_err(AskError::Broken)? == 0 {
                return Err(AskError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            let line = line.trim_end();
            if line.is_empty() {
                return Ok(());
            }
            if let Some(why) = error_of(line) {
                return Err(AskError::Refused(why));
            }
            tell(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        assert_eq!(error_of(r#"{"error":"no"}"#).as_deref(), Some("no"));
        assert_eq!(error_of(r#"{"errors":3}"#), None);
        assert_eq!(error_of("nonsense"), None);
    }

    #[test]
    fn a_server_that_is_not_there_is_told_with_the_remedy() {
        let path = std::env::temp_dir().join("corebeat-nobody-is-here.sock");
        let server = ServerToAsk { port: 1, admin: Some(path) };
        let refusal = server.connect().unwrap_err();
        assert!(refusal.contains("--port") && refusal.contains("--admin"), "{refusal}");
    }
}

//! The server whose place a new one takes.
//!
//! Owns this end of the conversation with it: finding it, its offer, what must agree, and the
//! moment at which it lets go. Never drains or closes anything of it: it does so itself
//! ([`succession`](super::succession)). The server's start calls it.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{ServerConfig, StartError, TakeOver};
use super::succession::Offer;
use crate::base::ids::SHARDS_MAX;
use crate::base::limits::{ADMIN_READ_BYTES, TAKE_OVER_ANSWER_BYTES};
use crate::net::admin_socket::{self, Place};
use crate::net::descriptors;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the wait for its end looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// A server that has offered its place.
#[derive(Debug)]
pub(super) struct Predecessor {
    path: PathBuf,
    conversation: Conversation,
    offer: Offer,
}

/// What is said with it.
#[derive(Debug)]
struct Conversation {
    stream: UnixStream,
    /// What it said and nobody looked at yet.
    heard: Vec<u8>,
    /// Descriptors that came along.
    arrived: Vec<OwnedFd>,
}

impl Predecessor {
    /// Asks the server that runs for its place, where `config` says so. None where there is none
    /// and none needs to be.
    ///
    /// # Errors
    /// [`StartError::TakeOver`]: nobody is there, or does not offer, or what must agree does not.
    /// The server that runs goes on then.
    pub(super) fn ask(config: &ServerConfig) -> Result<Option<Predecessor>, StartError> {
        let paths = match (&config.take_over, &config.admin) {
            (TakeOver::Never, _) => return Ok(None),
            (TakeOver::From(path), _) | (_, Place::At(path)) => vec![path.clone()],
            _ => admin_socket::usual_paths(config.listen.port()),
        };
        let mut refusal = None;
        for path in &paths {
            match admin_socket::connect(path) {
                Ok(stream) => return Predecessor::hear_offer(stream, path, config).map(Some),
                Err(error) => refusal = refusal.or(Some((path, error))),
            }
        }
        let (path, error) = refusal.expect("there is a path at least");
        let nobody =
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused);
        if nobody && config.take_over == TakeOver::IfAny {
            return Ok(None);
        }
        Err(StartError::TakeOver(not_there(path, &error, nobody)))
    }

    fn hear_offer(
        stream: UnixStream,
        path: &Path,
        config: &ServerConfig,
    ) -> Result<Predecessor, StartError> {
        let mut conversation = Conversation { stream, heard: Vec::new(), arrived: Vec::new() };
        let line = conversation.converse(&format!("take-over {}", std::process::id()))?;
        let offer = serde_json::from_str(&line).map_err(|_| {
            refused("what it offers is not understood; restart it without --take-over")
        })?;
        let predecessor = Predecessor { path: path.to_owned(), conversation, offer };
        predecessor.agree(config)?;
        Ok(predecessor)
    }

    /// Whether clients that come back find what they left.
    fn agree(&self, config: &ServerConfig) -> Result<(), StartError> {
        let Offer { pid, address, node, ref data, listeners } = self.offer;
        if config.listen != address {
            return Err(differs("--listen", &config.listen, pid, &address));
        }
        if config.node.0 != node {
            return Err(differs("--node", &config.node.0, pid, &node));
        }
        let own = config.data.as_deref().map(canonical);
        if own != *data {
            let show = |data: &Option<PathBuf>| match data {
                Some(data) => data.display().to_string(),
                None => "none".to_owned(),
            };
            return Err(differs("--data", &show(&own), pid, &show(data)));
        }
        if self.conversation.arrived.len() != listeners || listeners == 0 || listeners > SHARDS_MAX
        {
            return Err(refused("its listeners did not arrive; restart it without --take-over"));
        }
        Ok(())
    }

    /// The process.
    pub(super) fn pid(&self) -> u32 {
        self.offer.pid
    }

    /// Where it takes commands.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.offer.address
    }

    /// This end of the conversation, to be closed in other file tables.
    pub(super) fn descriptor(&self) -> RawFd {
        self.conversation.stream.as_raw_fd()
    }

    /// Its listeners, once.
    ///
    /// # Errors
    /// [`StartError::TakeOver`] where one is none, or listens elsewhere.
    pub(super) fn take_listeners(&mut self) -> Result<Vec<TcpListener>, StartError> {
        let listeners: Vec<TcpListener> =
            self.conversation.arrived.drain(..).map(TcpListener::from).collect();
        let sound = |listener: &TcpListener| listener.local_addr().ok() == Some(self.offer.address);
        if !listeners.iter().all(sound) {
            return Err(refused(
                "what it sent are not its listeners; restart it without --take-over",
            ));
        }
        Ok(listeners)
    }

    /// Tells it to let go. From here on this process has the port. One that died meanwhile has let
    /// go as well.
    ///
    /// # Errors
    /// [`StartError::TakeOver`] where it refuses, and goes on.
    pub(super) fn tell_ready(&mut self) -> Result<(), StartError> {
        // Where that fails it has hung up, and its last words say why.
        let _ = self.conversation.stream.write_all(b"ready\n");
        self.conversation.last_words()
    }

    /// Waits until it has ended and its store is free. False where `wanted` says no meanwhile.
    pub(super) fn wait_for_end(mut self, mut wanted: impl FnMut() -> bool) -> bool {
        // Where the kernel refuses, a signal has to wait for the end.
        let _ = self.conversation.stream.set_read_timeout(Some(LOOK));
        while wanted() {
            match self.conversation.receive() {
                Ok(0) => return true,
                Ok(_) => self.conversation.heard.clear(),
                Err(error) if is_timeout(&error) => {}
                Err(_) => return true,
            }
        }
        false
    }
}

impl Conversation {
    /// Asks and returns the line of the answer. What ends it is read, so that what was sent along
    /// has arrived.
    fn converse(&mut self, request: &str) -> Result<String, StartError> {
        let asked = self
            .stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| self.stream.write_all(format!("{request}\n").as_bytes()));
        asked.map_err(|error| refused(&format!("it does not listen to commands ({error})")))?;
        let line = self.line()?;
        self.line()?;
        Ok(line)
    }

    /// The next line that it says.
    fn line(&mut self) -> Result<String, StartError> {
        match self.next_line() {
            Ok(Some(line)) => accepted(line),
            Ok(None) => Err(refused("it hung up; look into its log, and try again")),
            Err(error) => Err(refused(&format!("it does not answer ({error})"))),
        }
    }

    /// Reads a line; none where it has hung up.
    fn next_line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.heard.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            if self.receive()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes in some of what it says. Whoever says more than any server would is none.
    fn receive(&mut self) -> io::Result<usize> {
        if self.heard.len() > TAKE_OVER_ANSWER_BYTES || self.arrived.len() > SHARDS_MAX {
            return Err(io::Error::other("it says too much"));
        }
        let mut buffer = [0; ADMIN_READ_BYTES];
        loop {
            match descriptors::receive(&self.stream, &mut buffer, &mut self.arrived) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.heard.extend_from_slice(&buffer[..count]);
                    return Ok(count);
                }
            }
        }
    }

    /// Reads its answer to `ready`: a refusal, or a line, or nothing where it is dead.
    fn last_words(&mut self) -> Result<(), StartError> {
        match self.next_line() {
            Ok(Some(line)) => accepted(line).map(drop),
            Err(error) if is_timeout(&error) => {
                Err(refused("it does not answer; look into its log"))
            }
            // It hung up, or was reset: it is gone.
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

/// A line, unless it is a refusal.
fn accepted(line: String) -> Result<String, StartError> {
    error_of(&line).map_or(Ok(line), |why| Err(refused(&why)))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The path by which both processes name the same directory.
pub(super) fn canonical(data: &Path) -> PathBuf {
    fs::canonicalize(data).unwrap_or_else(|_| data.to_owned())
}

/// What a line that a server says to a command tells where it is a refusal.
pub fn error_of(line: &str) -> Option<String> {
    let object: serde_json::Value = serde_json::from_str(line).ok()?;
    object.get("error")?.as_str().map(str::to_owned)
}

fn refused(why: &str) -> StartError {
    StartError::TakeOver(format!("--take-over: the running server goes on: {why}"))
}

fn differs(
    option: &str,
    own: &dyn std::fmt::Display,
    pid: u32,
    other: &dyn std::fmt::Display,
) -> StartError {
    StartError::TakeOver(format!(
        "{option} {own}: process {pid}, which runs, has {other}; start with the same, or stop that \
         one and start without --take-over"
    ))
}

fn not_there(path: &Path, error: &io::Error, nobody: bool) -> String {
    let path = path.display();
    if nobody {
        return format!(
            "--take-over: no server takes commands at {path}; name its path (--take-over PATH), or \
             start without it (--take-over=auto does both)"
        );
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "--take-over: {path} is another user's; run this as the user of the server that runs"
        ),
        _ => format!("--take-over: cannot ask at {path} ({error}); name another path"),
    }
}

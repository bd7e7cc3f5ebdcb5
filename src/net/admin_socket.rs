//! The Unix socket by which an operator's commands reach a running server.
//!
//! Owns where it lies, who may open it, and what becomes of one that a dead process left behind.
//! Never reads a request: the steward's desk does. The engine opens it, `corebeat` commands connect
//! to it.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use mio::Token;
use mio::event::Source;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry};
use rustix::process::getuid;
use socket2::{Domain, SockAddr, Socket, Type};

/// Commands that may wait to be accepted.
const BACKLOG: i32 = 16;

/// Where the socket is to lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: no commands are taken.
    Off,
    /// Where commands look for it by the port: see [`usual_paths`].
    Usual,
    /// At this path.
    At(PathBuf),
}

/// Why there is no socket. Each prints as one line that names the option and the remedy.
#[derive(Debug)]
pub enum OpenError {
    /// Another process serves there.
    Live(PathBuf),
    /// Something else lies there.
    Stranger(PathBuf),
    /// The folder of the usual place may be written to by others.
    Folder(PathBuf),
    /// The system refuses.
    Refused {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, what) = match self {
            OpenError::Live(path) => (path, "another server answers there".to_owned()),
            OpenError::Stranger(path) => (path, "what lies there is no socket".to_owned()),
            OpenError::Folder(path) => (path, "others may write to this folder".to_owned()),
            OpenError::Refused { path, cause } => (path, format!("it cannot be made ({cause})")),
        };
        let path = path.display();
        write!(f, "--admin {path}: {what}; choose another path, or off for none")
    }
}

impl std::error::Error for OpenError {}

/// Where a server that listens on `port` puts its socket without being told, and where commands
/// look for it: the first that can be had.
///
/// `$XDG_RUNTIME_DIR/corebeat-PORT.sock` where that folder is named, and then
/// `/tmp/corebeat-UID/PORT.sock`.
pub fn usual_paths(port: u16) -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|folder| folder.is_absolute() && folder.is_dir());
    let own = own_folder().join(format!("{port}.sock"));
    let named = runtime.map(|folder| folder.join(format!("corebeat-{port}.sock")));
    named.into_iter().chain([own]).collect()
}

/// The folder of this user for sockets, where the system names none.
fn own_folder() -> PathBuf {
    PathBuf::from(format!("/tmp/corebeat-{}", getuid().as_raw()))
}

/// Connects to the server whose socket lies at `path`.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] where none lies there, [`io::ErrorKind::ConnectionRefused`] where
/// its server is dead, [`io::ErrorKind::PermissionDenied`] where it is another user's.
pub fn connect(path: &Path) -> io::Result<BlockingStream> {
    BlockingStream::connect(path)
}

/// A listening socket, and the file by which it is found.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, by which it is told from one that replaced it.
    identity: Option<(u64, u64)>,
}

impl AdminSocket {
    /// Listens at the first of the usual paths, for this user alone.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_usual(port: u16, replaced: Option<&Path>) -> Result<AdminSocket, OpenError> {
        let path = usual_paths(port).swap_remove(0);
        if path.parent() == Some(&own_folder()) {
            make_own_folder()?;
        }
        AdminSocket::open(&path, replaced)
    }

    /// Listens at `path`, for this user alone. What a dead process left there is replaced, and so
    /// is the socket of a live one that hands over, where it lies at `replaced`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: &Path, replaced: Option<&Path>) -> Result<AdminSocket, OpenError> {
        if replaced == Some(path) {
            return AdminSocket::replace(path);
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(OpenError::Stranger(path.to_owned()));
            }
            Ok(_) if connect(path).is_ok() => return Err(OpenError::Live(path.to_owned())),
            _ => {}
        }
        AdminSocket::replace(path)
    }

    /// Listens at `path` in the place of whoever listens there.
    ///
    /// The socket is made under a name of its own and then renamed, so that a command finds one at
    /// any time, and nobody else can have opened it before it was shut to others.
    fn replace(path: &Path) -> Result<AdminSocket, OpenError> {
        let refused = |cause| OpenError::Refused { path: path.to_owned(), cause };
        let mut unnamed = path.as_os_str().to_owned();
        unnamed.push(format!(".{}", std::process::id()));
        let unnamed = PathBuf::from(unnamed);
        let _ = fs::remove_file(&unnamed);
        let listener = listen(&unnamed, path).map_err(|cause| {
            let _ = fs::remove_file(&unnamed);
            refused(cause)
        })?;
        Ok(AdminSocket { listener, path: path.to_owned(), identity: identity(path) })
    }

    /// The descriptor, for a thread that closes the copy in its own file table.
    pub fn descriptor(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next command that connects, if one waits.
    ///
    /// # Errors
    /// What keeps the kernel from giving one that waits: no event comes for that one again.
    pub fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes `registry` tell by `token` when a command connects.
    ///
    /// # Errors
    /// What the kernel says to the registration.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.listener.register(registry, token, Interest::READABLE)
    }
}

impl Drop for AdminSocket {
    /// Takes its file away, unless another server has put its own there.
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds at `unnamed`, shuts it to others, listens, and gives it its name.
fn listen(unnamed: &Path, path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(unnamed)?)?;
    fs::set_permissions(unnamed, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    fs::rename(unnamed, path)?;
    Ok(UnixListener::from_std(socket.into()))
}

/// What tells a file from another one of the same name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Makes this user's folder, or sees that it is what this would have made.
fn make_own_folder() -> Result<(), OpenError> {
    let folder = own_folder();
    let made = fs::DirBuilder::new().mode(0o700).create(&folder);
    match made {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            Err(OpenError::Refused { path: folder, cause })
        }
        _ => {
            let own = fs::symlink_metadata(&folder).is_ok_and(|found| {
                found.is_dir() && found.uid() == getuid().as_raw() && found.mode() & 0o077 == 0
            });
            if own { Ok(()) } else { Err(OpenError::Folder(folder)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        let name = format!("corebeat-admin-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn only_its_user_may_open_it_and_it_goes_with_its_server() {
        let folder = folder();
        let path = folder.join("a.sock");
        let socket = AdminSocket::open(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let _command = connect(&path).unwrap();
        assert!(socket.accept().unwrap().is_some());
        assert!(socket.accept().unwrap().is_none());
        drop(socket);
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::remove_dir(folder).unwrap();
    }

    #[test]
    fn a_dead_one_is_replaced_and_a_live_one_left_alone() {
        let folder = folder();
        let path = folder.join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let first = AdminSocket::open(&path, None).unwrap();
        let refusal = AdminSocket::open(&path, None).unwrap_err().to_string();
        let line = format!("--admin {}: another server answers there; choose", path.display());
        assert!(refusal.starts_with(&line), "{refusal}");
        let second = AdminSocket::open(&path, Some(&path)).unwrap();
        drop(first);
        let _command = connect(&path).unwrap();
        assert!(second.accept().unwrap().is_some(), "the first one took its own file away only");
        drop(second);
        fs::remove_dir(folder).unwrap();
    }

    #[test]
    fn what_is_no_socket_is_not_replaced() {
        let folder = folder();
        let path = folder.join("precious");
        fs::write(&path, "text").unwrap();
        assert!(matches!(AdminSocket::open(&path, None), Err(OpenError::Stranger(_))));
        assert_eq!(fs::read(&path).unwrap(), b"text");
        fs::remove_dir_all(folder).unwrap();
    }
}

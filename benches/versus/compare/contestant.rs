//! Who is compared.
//!
//! Owns the contestants' names and the command line of each one's server. Never starts one.

use std::path::{Path, PathBuf};

/// A server that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Contestant {
    Corebeat,
    Tuned,
    Plain,
    /// The bare loop of `send`, in a process whose two threads share a file table.
    FloorShared,
    /// The same, in a process with one thread: nobody else uses its file table.
    FloorPrivate,
}

impl Contestant {
    /// All, in the order of every table and chart.
    pub(crate) const ALL: [Contestant; 5] = [
        Contestant::Corebeat,
        Contestant::Tuned,
        Contestant::Plain,
        Contestant::FloorShared,
        Contestant::FloorPrivate,
    ];
    /// Those that are servers.
    pub(crate) const SERVERS: [Contestant; 3] =
        [Contestant::Corebeat, Contestant::Tuned, Contestant::Plain];

    /// As people read it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Contestant::Corebeat => "corebeat",
            Contestant::Tuned => "tokio-tuned",
            Contestant::Plain => "tokio-plain",
            Contestant::FloorShared => "floor, shared table",
            Contestant::FloorPrivate => "floor, private table",
        }
    }

    /// As programs read it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Contestant::Corebeat => "corebeat",
            Contestant::Tuned => "tokio_tuned",
            Contestant::Plain => "tokio_plain",
            Contestant::FloorShared => "floor_shared_table",
            Contestant::FloorPrivate => "floor_private_table",
        }
    }

    /// Whether it is no server but the kernel's share alone.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Contestant::FloorShared | Contestant::FloorPrivate)
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) corebeat: PathBuf,
    tuned: PathBuf,
    plain: PathBuf,
    floor: PathBuf,
}

impl Programs {
    /// Finds those that were built beside this one.
    ///
    /// # Errors
    /// One line that names what is missing and the command that makes it.
    pub(crate) fn find() -> Result<Programs, String> {
        let floor = std::env::current_exe()
            .map_err(|error| format!("cannot find this executable: {error}"))?;
        let corebeat = PathBuf::from(env!("CARGO_BIN_EXE_corebeat"));
        let examples = corebeat.with_file_name("examples");
        let programs = Programs {
            tuned: examples.join("tokio_tuned"),
            plain: examples.join("tokio_plain"),
            corebeat,
            floor,
        };
        for path in [&programs.corebeat, &programs.tuned, &programs.plain] {
            if !path.is_file() {
                return Err(format!(
                    "{} is missing; build it: cargo build --release --bin corebeat \
                     --example tokio_tuned --example tokio_plain",
                    path.display()
                ));
            }
        }
        let all = [&programs.corebeat, &programs.tuned, &programs.plain, &programs.floor];
        let blank = |path: &&&PathBuf| path.to_string_lossy().contains(char::is_whitespace);
        if let Some(path) = all.iter().find(blank) {
            return Err(format!(
                "{} has a blank in its name; set CARGO_TARGET_DIR to a folder without one",
                path.display()
            ));
        }
        Ok(programs)
    }

    /// Where files of a run may lie: beside the programs.
    pub(crate) fn folder(&self) -> PathBuf {
        self.corebeat.with_file_name("versus")
    }

    /// The command of a contestant's server, with so many workers and further options of a server.
    pub(crate) fn server(&self, contestant: Contestant, workers: u32, options: &str) -> String {
        let program = |path: &Path| path.display().to_string();
        let server = match contestant {
            Contestant::Corebeat => format!("{} serve", program(&self.corebeat)),
            Contestant::Tuned => program(&self.tuned),
            Contestant::Plain => program(&self.plain),
            Contestant::FloorShared => return format!("{} floor shared", program(&self.floor)),
            Contestant::FloorPrivate => return format!("{} floor private", program(&self.floor)),
        };
        format!("{server} --listen 127.0.0.1:0 --workers {workers} {options}").trim_end().into()
    }
}

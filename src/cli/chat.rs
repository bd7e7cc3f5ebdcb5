//! `corebeat chat`.
//!
//! Owns its options, and the exit codes of a talk's ends. Never draws or connects: the terminal
//! and the client do.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;

use super::{BROKEN, DONE, complain, units};
use crate::base::name::{self, LOBBY};
use crate::client::Config;
use crate::client::evented::Client;
use crate::terminal::{lines, screen};

/// Stands below the options in the help.
pub(super) const HELP: &str = "\
Examples:
  corebeat chat                               talk in the lobby of 127.0.0.1:8080
  corebeat chat --user ann chat.example:7000
  corebeat chat --room den,kitchen 10.0.0.1:8080,10.0.0.2:8080
  echo hi | corebeat chat --user bot --room lobby 127.0.0.1:8080
  corebeat chat --follow --quiet </dev/null | grep alarm

On a terminal it takes the whole screen; F1 shows the keys. Where standard input or output is no
terminal it goes line by line: what comes in is said, what is heard goes out, and it ends when the
input does and all is answered. The exit code is then 0 if everything was done, and 1 if not.";

/// What `corebeat chat` takes.
#[derive(Args, Clone, Debug)]
pub struct ChatOptions {
    /// Where the server is: HOST, HOST:PORT or corebeat://HOST:PORT; with commas between them
    /// several, of which the next is tried where one fails
    #[arg(value_name = "URL", default_value = "127.0.0.1:8080", env = "COREBEAT_URL")]
    #[arg(hide_env = true)]
    pub url: String,

    /// The name to go by [default: the login name, where it can be one]
    #[arg(long, value_name = "NAME", env = "COREBEAT_USER", hide_env = true)]
    pub user: Option<String>,

    /// A room to join; can be given several times, or with commas. What is said line by line goes
    /// to the first
    #[arg(long, value_name = "ROOM", value_delimiter = ',', default_value = LOBBY)]
    #[arg(env = "COREBEAT_ROOM", hide_env = true)]
    pub room: Vec<String>,

    /// What proves the user; better given as COREBEAT_TOKEN, which no list of processes shows
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    #[arg(env = "COREBEAT_TOKEN", hide_env_values = true, hide_env = true)]
    pub token: String,

    /// Go line by line on a terminal too
    #[arg(long)]
    pub lines: bool,

    /// Line by line: stay behind the end of the input, until a signal
    #[arg(long)]
    pub follow: bool,

    /// Line by line: tell nothing of who comes and goes
    #[arg(long)]
    pub quiet: bool,

    /// Line by line: give up where there is no welcome after so long
    #[arg(long, value_name = "DURATION", value_parser = units::duration, default_value = "30s")]
    pub patience: Duration,
}

/// Talks. Returns the exit code.
pub(super) fn chat(options: ChatOptions) -> u8 {
    let client = match options.client() {
        Ok(client) => client,
        Err(refusal) => return complain(&refusal),
    };
    let full = !options.lines && !options.follow && screen::is_possible();
    let outcome = if full {
        screen::talk(client, &options.room).map(|refusal| refusal.map(|no| no.to_string()))
    } else {
        let ChatOptions { room: rooms, follow, quiet, patience, .. } = options;
        lines::talk(client, lines::Manner { rooms, follow, quiet, patience })
    };
    match outcome {
        Ok(None) => DONE,
        // A reader that has hung up, as `head -1` does, has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => DONE,
        Ok(Some(why)) => fail(&why),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> u8 {
    let _ = writeln!(io::stderr(), "corebeat: {why}");
    BROKEN
}

impl ChatOptions {
    fn client(&self) -> Result<Client, String> {
        for room in &self.room {
            name::check(room).map_err(|error| {
                format!("--room `{room}` {}; write it like --room lobby", error.text())
            })?;
        }
        let user = match &self.user {
            Some(user) => user.clone(),
            None => login_name(),
        };
        let mut config = Config::new(&self.url, &user).map_err(|error| error.to_string())?;
        config.token.clone_from(&self.token);
        Client::new(config).map_err(|error| format!("{error}; see corebeat chat --help"))
    }
}

/// The login name, or none that the server then chooses.
fn login_name() -> String {
    let user = std::env::var("USER").unwrap_or_default();
    if name::check(&user).is_ok() { user } else { String::new() }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Harness {
        #[command(flatten)]
        chat: ChatOptions,
    }

    fn options(arguments: &[&str]) -> ChatOptions {
        Harness::try_parse_from(std::iter::once(&"chat").chain(arguments)).unwrap().chat
    }

    #[test]
    fn a_bare_chat_talks_in_the_lobby() {
        let bare = options(&[]);
        assert_eq!((bare.url.as_str(), bare.room.len()), ("127.0.0.1:8080", 1));
        assert!(bare.client().is_ok());
        assert_eq!(options(&["--room", "a,b", "--room", "c"]).room, ["a", "b", "c"]);
    }

    #[test]
    fn what_cannot_be_is_refused_in_one_line_with_the_remedy() {
        for (arguments, words) in [
            (&["--room", "a b"][..], "--room `a b` has white space"),
            (&["--user", "$root"], "the user name begins with $"),
            (&["http://localhost"], "write it like 127.0.0.1:8080 or corebeat://host:8080"),
            (&["localhost:0"], "`localhost:0` is no address"),
        ] {
            let refusal = options(arguments).client().unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
            assert_eq!(refusal.lines().count(), 1);
        }
    }
}

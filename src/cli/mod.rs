//! The command line: what is asked for, what is printed, and with which code the process ends.
//!
//! Owns the commands, the form of errors and of the log. Never serves: the engine does.
//! `main` calls [`main`](main()).

pub mod admin;
#[cfg(feature = "bench")]
pub mod bench;
#[cfg(feature = "terminal")]
pub mod chat;
mod close_table;
pub mod closes;
pub mod history;
pub mod limits;
pub mod logging;
pub mod offline;
pub mod options;
pub mod overflow;
pub mod overload;
pub mod serve;
pub mod sessions;
pub mod stopping;
pub mod storage;
pub mod units;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use options::ServeOptions;

/// The process did what it was asked for.
const DONE: u8 = 0;
/// The server broke down.
const BROKEN: u8 = 1;
/// The request was wrong, or the machine does not allow it.
const REFUSED: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  corebeat                                   serve on 127.0.0.1:8080
  corebeat --listen 0.0.0.0:7000             serve everybody who can reach this machine
  corebeat --heartbeat-profile mobile        fewer pings, for clients on phones
  corebeat --workers 4 --max-connections 200000 --max-outbound 256KiB
  corebeat chat                              chat in this terminal
  nc 127.0.0.1 8080                          the same without any program: type a line

Durations are written 30s, 1m30s or 500ms, sizes 64KiB, 1MB or 65536. Every option can be set in
the environment as well: --max-frame is COREBEAT_MAX_FRAME. RUST_LOG sets how much is logged
(error, warn, info, debug). The first SIGTERM or SIGINT drains connections, a second one stops at
once; SIGUSR1 logs the counters.";

const ABOUT: &str = "\
Keeps very many connections alive, and carries messages between them. One port serves browsers and
WebSockets, native binary frames and text lines; the first bytes of a connection tell which.";

/// The whole command line.
#[derive(Parser, Debug)]
#[command(name = "corebeat", version, about = ABOUT, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeOptions,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the server; so does corebeat without a command
    #[command(after_help = EXAMPLES)]
    Serve(Box<ServeOptions>),
    /// Ask a running server: ping tells what it is, counters its numbers
    #[command(after_help = admin::HELP, max_term_width = 100)]
    Admin(admin::AdminCommand),
    /// Tell why connections of a running server ended
    #[command(after_help = closes::HELP, max_term_width = 100)]
    Closes(closes::ClosesCommand),
    /// Measure a server with simulated clients
    #[cfg(feature = "bench")]
    #[command(after_help = bench::HELP, max_term_width = 100)]
    Bench(Box<bench::BenchOptions>),
    /// Talk with others on a server
    #[cfg(feature = "terminal")]
    #[command(after_help = chat::HELP, max_term_width = 100)]
    Chat(Box<chat::ChatOptions>),
}

/// Runs what the arguments ask for.
///
/// Code 0 when it was done, 1 when the server broke down, 2 when the request was wrong or the
/// machine does not allow it; the latter two with one line on standard error.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match CommandLine::try_parse_from(arguments) {
        Ok(CommandLine { command: Some(Command::Serve(options)), .. }) => *options,
        Ok(CommandLine { command: Some(Command::Admin(command)), .. }) => {
            return ExitCode::from(admin::admin(&command));
        }
        Ok(CommandLine { command: Some(Command::Closes(command)), .. }) => {
            return ExitCode::from(closes::closes(&command));
        }
        #[cfg(feature = "bench")]
        Ok(CommandLine { command: Some(Command::Bench(options)), .. }) => {
            return ExitCode::from(bench::bench(*options));
        }
        #[cfg(feature = "terminal")]
        Ok(CommandLine { command: Some(Command::Chat(options)), .. }) => {
            return ExitCode::from(chat::chat(*options));
        }
        Ok(CommandLine { command: None, serve }) => serve,
        Err(error) => return explain(&error),
    };
    let code = match options.into_config() {
        Ok(config) => serve::serve(config),
        Err(refusal) => complain(&refusal),
    };
    ExitCode::from(code)
}

/// Prints help and version as they are, and an error as one line.
fn explain(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that has hung up, as `corebeat --help | head -1` does, has read enough.
            let _ = error.print();
            ExitCode::from(DONE)
        }
        _ => ExitCode::from(complain(&one_line(&error.render().to_string()))),
    }
}

/// An error of the parser without its usage, its label and its line breaks.
fn one_line(rendered: &str) -> String {
    let told: Vec<&str> = rendered
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let told = told.join(" ").replace(" tip: ", "; ");
    let told = told.replace("invalid digit found in string", "write a whole number");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    format!("{told}; see {} --help", command_of(rendered))
}

/// The command whose usage an error of the parser shows.
fn command_of(rendered: &str) -> &'static str {
    let usage = rendered.lines().find_map(|line| line.trim().strip_prefix("Usage: corebeat "));
    match usage.and_then(|usage| usage.split(' ').next()) {
        Some("admin") => "corebeat admin",
        Some("bench") => "corebeat bench",
        Some("chat") => "corebeat chat",
        Some("closes") => "corebeat closes",
        Some("serve") => "corebeat serve",
        _ => "corebeat",
    }
}

/// One line on standard error, and the code that goes with it.
fn complain(line: &str) -> u8 {
    let _ = writeln!(std::io::stderr(), "corebeat: {line}");
    REFUSED
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_option_table_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_option_can_be_set_in_the_environment_under_its_own_name() {
        let command = CommandLine::command();
        for option in command.get_arguments().filter(|option| option.get_long().is_some()) {
            let name = option.get_long().unwrap();
            if name == "help" || name == "version" {
                continue;
            }
            let expected = format!("COREBEAT_{}", name.replace('-', "_").to_uppercase());
            assert_eq!(option.get_env().unwrap(), expected.as_str());
        }
    }

    #[test]
    fn errors_of_the_parser_become_one_line() {
        for (argument, words) in [
            ("--liste=1", "unexpected argument '--liste' found"),
            ("--workers=0", "invalid value '0' for '--workers <COUNT>'"),
            ("--workers=two", "for '--workers <COUNT>': write a whole number"),
            ("--max-frame=big", "`big` is no size; write it like"),
            ("--heartbeat-profile=x", "[possible values: realtime, standard, mobile, weak]"),
            ("--listen=here", "`here` is no address; write it like 0.0.0.0:8080"),
            ("--wrkers=1", "found; a similar argument exists: '--workers'; see corebeat --help"),
            ("stray", "'stray'"),
        ] {
            let error = CommandLine::try_parse_from(["corebeat", argument]).unwrap_err();
            let line = one_line(&error.render().to_string());
            assert!(line.contains(words), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(!line.starts_with("error"), "{line}");
        }
    }

    #[test]
    fn an_error_names_the_help_of_its_command() {
        for (command, help) in [("serve", "see corebeat serve --help"), ("", "see corebeat --help")]
        {
            let arguments =
                ["corebeat", command, "--nonsense"].into_iter().filter(|a| !a.is_empty());
            let error = CommandLine::try_parse_from(arguments).unwrap_err();
            let line = one_line(&error.render().to_string());
            assert!(line.ends_with(help), "{line}");
        }
    }

    #[test]
    fn serve_is_what_a_bare_corebeat_does() {
        let bare = CommandLine::try_parse_from(["corebeat", "--workers", "3"]).unwrap();
        assert_eq!(bare.serve.workers, Some(3));
        let named = CommandLine::try_parse_from(["corebeat", "serve", "--workers", "3"]).unwrap();
        assert!(
            matches!(named.command, Some(Command::Serve(options)) if options.workers == Some(3))
        );
    }
}

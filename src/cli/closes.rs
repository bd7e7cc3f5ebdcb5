//! `corebeat closes`: why connections of a running server ended.
//!
//! Owns the options and the conversation. Never decides how a table looks: the
//! `close_table` does.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::admin::{AskError, Conversation, ServerToAsk};
use super::close_table::CloseTable;
use super::{BROKEN, DONE, complain};
use crate::base::counters::CloseReason;
use crate::base::limits::CLOSES_KEPT;
use crate::base::name;
use crate::engine::close_record::CloseLine;

/// How often `--follow` asks.
const FOLLOW_PERIOD: Duration = Duration::from_secs(1);

/// Stands below the options in the help.
pub(super) const HELP: &str = "\
Each worker keeps its last 10,000 closes. Columns, all as of the moment when the end was decided:
  OPEN    how long it had been open        SILENT  since its last whole frame, line or request
  IN      bytes received                   OUT     bytes that its host had acknowledged
  QUEUED  bytes that waited in the server  UNACKED bytes sent or held by the kernel, unacknowledged
  RTT     the kernel's round trip          RESENT  segments sent again

Examples:
  corebeat closes                             the last 50 of the server on port 8080
  corebeat closes --reason slow_reader        only those
  corebeat closes --user ann --last 5         what happened to ann?
  corebeat closes --follow                    as they happen
  corebeat closes --last 10000 --json         everything that is known, a line of JSON each";

/// What `corebeat closes` is asked.
#[derive(Args, Clone, Debug)]
pub struct ClosesCommand {
    /// Which server.
    #[command(flatten)]
    pub server: ServerToAsk,

    /// How many to show at most, the latest
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=CLOSES_KEPT as i64))]
    pub last: u32,

    /// Only those for this reason
    #[arg(long, value_name = "REASON", hide_possible_values = true)]
    #[arg(value_parser = PossibleValuesParser::new(CloseReason::ALL.map(CloseReason::name)))]
    pub reason: Option<String>,

    /// Only those of this user
    #[arg(long, value_name = "NAME", value_parser = user)]
    pub user: Option<String>,

    /// Go on and show others as they happen
    #[arg(long)]
    pub follow: bool,

    /// Print lines of JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A user's name, as the server would have it.
fn user(text: &str) -> Result<String, String> {
    name::check(text).map_err(|error| format!("a user name {}", error.text()))?;
    Ok(text.to_owned())
}

impl ClosesCommand {
    /// The request for those behind `after`, closes by worker.
    fn request(&self, last: u32, after: &[u64]) -> String {
        let mut request = format!("closes {last}");
        if let Some(reason) = &self.reason {
            request += &format!(" reason={reason}");
        }
        if let Some(user) = &self.user {
            request += &format!(" user={user}");
        }
        if !after.is_empty() {
            let after: Vec<String> = after.iter().map(u64::to_string).collect();
            request += &format!(" after={}", after.join(","));
        }
        request
    }
}

/// Shows what was asked for. Returns the exit code.
pub(super) fn closes(command: &ClosesCommand) -> u8 {
    let mut conversation = match command.server.connect() {
        Ok(conversation) => conversation,
        Err(refusal) => return complain(&refusal),
    };
    let told = if command.json {
        tell(command, &mut conversation, &mut Json)
    } else {
        tell(command, &mut conversation, &mut CloseTable::default())
    };
    match told {
        Ok(()) => DONE,
        // A reader that has hung up, as `corebeat closes | head` does, has read enough.
        Err(AskError::Broken(error)) if error.kind() == io::ErrorKind::BrokenPipe => DONE,
        Err(AskError::Refused(why)) => complain(&why),
        Err(AskError::Broken(error)) => {
            complain(&format!("the server did not answer: {error}"));
            BROKEN
        }
    }
}

/// How closes are printed.
pub(super) trait Printer {
    /// Some more, the oldest first.
    fn print(&mut self, out: &mut dyn Write, closes: &[CloseLine]) -> io::Result<()>;
}

struct Json;

impl Printer for Json {
    fn print(&mut self, out: &mut dyn Write, closes: &[CloseLine]) -> io::Result<()> {
        closes.iter().try_for_each(|close| {
            let line = serde_json::to_string(close).map_err(io::Error::other)?;
            writeln!(out, "{line}")
        })
    }
}

fn tell(
    command: &ClosesCommand,
    conversation: &mut Conversation,
    printer: &mut dyn Printer,
) -> Result<(), AskError> {
    let mut out = io::stdout().lock();
    let (mut last, mut after) = (command.last, Vec::new());
    loop {
        let closes;
        (closes, after) = ask(conversation, &command.request(last, &after))?;
        printer.print(&mut out, &closes).map_err(AskError::Broken)?;
        out.flush().map_err(AskError::Broken)?;
        if !command.follow {
            return Ok(());
        }
        last = CLOSES_KEPT as u32;
        thread::sleep(FOLLOW_PERIOD);
    }
}

/// The closes of an answer, and how many each worker has had by then.
fn ask(
    conversation: &mut Conversation,
    request: &str,
) -> Result<(Vec<CloseLine>, Vec<u64>), AskError> {
    let (mut closes, mut totals) = (Vec::new(), None);
    conversation.ask(request, |line| match serde_json::from_str::<CloseLine>(line) {
        Ok(close) => closes.push(close),
        Err(_) => totals = totals_of(line),
    })?;
    let unclear = || io::Error::other("its answer is not understood; is it another version?");
    totals.map(|totals| (closes, totals)).ok_or_else(|| AskError::Broken(unclear()))
}

fn totals_of(line: &str) -> Option<Vec<u64>> {
    let mut object: serde_json::Value = serde_json::from_str(line).ok()?;
    serde_json::from_value(object.get_mut("closes")?.take()).ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::base::ids::SHARDS_MAX;
    use crate::base::limits::{ADMIN_REQUEST_BYTES, NAME_MAX};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        closes: ClosesCommand,
    }

    fn command(words: &[&str]) -> Result<ClosesCommand, String> {
        let line = Line::try_parse_from([&["closes"], words].concat());
        line.map(|line| line.closes).map_err(|error| error.to_string())
    }

    #[test]
    fn options_become_a_request() {
        let plain = command(&[]).unwrap();
        assert_eq!(plain.request(plain.last, &[]), "closes 50");
        let words = ["--last", "7", "--reason", "slow_reader", "--user", "ann"];
        let chosen = command(&words).unwrap();
        let request = chosen.request(chosen.last, &[3, 4]);
        assert_eq!(request, "closes 7 reason=slow_reader user=ann after=3,4");
    }

    #[test]
    fn what_follows_is_asked_of_as_many_workers_as_there_can_be() {
        let name = "n".repeat(NAME_MAX);
        let all = command(&["--follow", "--reason", "handshake_timeout", "--user", &name]).unwrap();
        let request = all.request(CLOSES_KEPT as u32, &[u64::MAX; SHARDS_MAX]);
        assert!(request.len() < ADMIN_REQUEST_BYTES, "{} bytes", request.len());
    }

    #[test]
    fn what_nobody_can_have_is_refused_before_the_server_is_asked() {
        assert!(command(&["--last", "10001"]).unwrap_err().contains("10000"));
        assert!(command(&["--reason", "boredom"]).unwrap_err().contains("slow_reader"));
        assert!(command(&["--user", "two words"]).unwrap_err().contains("white space"));
    }

    #[test]
    fn the_last_line_of_an_answer_says_how_many_there_were() {
        assert_eq!(totals_of(r#"{"closes":[4,0]}"#), Some(vec![4, 0]));
        assert_eq!(totals_of(r#"{"closed":[4,0]}"#), None);
    }
}

//! What an operator's commands ask of a running server.
//!
//! Owns the requests of the admin socket and how the steward answers them. Never touches the
//! socket: the [desk](super::desk) does. The steward calls it once a turn.

use serde_json::{Map, Value, json};

use super::desk::Asker;
use super::steward::{Stage, Steward};
use crate::base::counters::Counters;

/// Who wants to know the workers' numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curious {
    /// The log.
    Log,
    /// A command.
    Command(Asker),
}

impl Steward {
    /// Answers what has been asked since the last turn. Goes on until a look at the desk brings
    /// nothing more: nobody would tell again of what was read in the last one.
    pub(super) fn serve_desk(&mut self) {
        let now = self.clock.now().mono;
        loop {
            let Some(desk) = &mut self.desk else { return };
            desk.turn(self.poll.registry(), now);
            let Some((asker, request)) = desk.next_request() else { break };
            self.take_request(asker, &request);
        }
        self.miss_successor();
    }

    fn take_request(&mut self, asker: Asker, request: &str) {
        let words: Vec<&str> = request.split_whitespace().collect();
        match words[..] {
            ["ping"] => {
                let about = self.about();
                self.answer(asker, &[about]);
            }
            ["counters"] if self.stage == Stage::Stopping => self.refuse(asker, "it is stopping"),
            ["counters"] => self.count(Curious::Command(asker)),
            ["closes", ref chosen @ ..] => self.take_close_request(asker, chosen),
            #[cfg(debug_assertions)]
            ["panic", who] => self.have_panic(asker, who),
            ["take-over", pid] => self.offer(asker, pid),
            ["ready"] => self.hand_over(asker),
            _ => self.refuse(asker, "no such request; there are ping, counters and closes"),
        }
    }

    /// A drill: a worker, or the store, panics.
    #[cfg(debug_assertions)]
    fn have_panic(&mut self, asker: Asker, who: &str) {
        use super::parcel::Command;
        let done = match who.parse() {
            Ok(worker) => self.command_one(worker, Command::Panic),
            Err(_) => who == "store" && self.command_one(0, Command::PanicStore),
        };
        match done {
            true => self.answer(asker, &[json!({ "panics": who })]),
            false => self.refuse(asker, "there is no such worker"),
        }
    }

    /// Says all of an answer.
    pub(super) fn answer(&mut self, asker: Asker, lines: &[Value]) {
        let now = self.clock.now().mono;
        if let Some(desk) = &mut self.desk {
            lines.iter().for_each(|line| desk.say(asker, line));
            desk.finish(asker, now);
        }
    }

    /// Says why there is no answer.
    pub(super) fn refuse(&mut self, asker: Asker, why: &str) {
        let now = self.clock.now().mono;
        if let Some(desk) = &mut self.desk {
            desk.refuse(asker, why, now);
        }
    }

    /// What this server is and how far it has come.
    fn about(&self) -> Value {
        let stage = match self.stage {
            Stage::Serving => "serving",
            Stage::Leaving { .. } | Stage::Shutting { .. } | Stage::Draining { .. } => "draining",
            Stage::Stopping => "stopping",
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "address": self.identity.address.to_string(),
            "workers": self.employees.len(),
            "stage": stage,
            "uptime_ms": self.clock.now().mono.0,
        })
    }

    /// Tells a command the numbers of each worker, and their sum.
    pub(super) fn answer_count(&mut self, asker: Asker, counted: &[Counters], total: &Counters) {
        let mut lines: Vec<Value> = (0..)
            .zip(counted)
            .map(|(worker, counters)| with_numbers("worker", json!(worker), counters))
            .collect();
        lines.push(with_numbers("worker", json!("all"), total));
        self.answer(asker, &lines);
    }
}

/// An object of all counters, after one other member.
fn with_numbers(name: &str, value: Value, counters: &Counters) -> Value {
    let mut object = Map::new();
    object.insert(name.to_owned(), value);
    counters.each(|name, number| {
        object.insert(name.to_owned(), Value::from(number));
    });
    Value::Object(object)
}

//! The steward and the connections that end.
//!
//! Owns what of them is to be logged, and the questions of operators about them, which all workers
//! have to answer. Never keeps a record for longer than that: the workers do
//! ([`CloseJournal`](super::close_journal::CloseJournal)).

use std::collections::VecDeque;
use std::sync::Arc;

use log::log;
use serde_json::{Value, json};

use super::close_journal::{CloseQuery, Numbered};
use super::close_log::{CLOSE_LOG_PERIOD_MS, CloseLog, CloseTally};
use super::desk::Asker;
use super::parcel::Command;
use super::steward::{Stage, Steward};
use crate::base::ids::ShardId;
use crate::base::time::Mono;

/// What one worker answers.
#[derive(Clone, Debug)]
pub struct CloseAnswer {
    /// What was asked for, the oldest first.
    pub found: Vec<Numbered>,
    /// Its closes since the start.
    pub total: u64,
}

/// A question that the workers are being asked, or will be.
struct Inquiry {
    asker: Asker,
    query: Arc<CloseQuery>,
}

/// What a steward knows of the connections that end.
#[derive(Default)]
pub(super) struct CloseWatch {
    log: CloseLog,
    /// Workers that told, and when each may tell again.
    told: Vec<(ShardId, Mono)>,
    /// The first one is being asked. One conversation has one of them at a time.
    inquiries: VecDeque<Inquiry>,
    /// What has been answered to the first one, by worker.
    answers: Vec<Option<CloseAnswer>>,
}

impl CloseWatch {
    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.told.iter().map(|(_, at)| *at).chain(self.log.deadline()).min()
    }

    /// Logs all that was not logged yet: nothing will follow.
    pub(super) fn log_the_rest(&mut self) {
        for group in self.log.drain() {
            log!(group.level(), "{group}");
        }
    }

    /// Takes in what a worker that has ended had not told.
    pub(super) fn inherit(&mut self, tally: CloseTally) {
        self.log.add(tally);
    }
}

impl Steward {
    /// A worker told of connections that ended.
    pub(super) fn hear_closed(&mut self, worker: ShardId, tally: CloseTally) {
        let now = self.clock.now().mono;
        self.watch.log.add(tally);
        self.watch.told.push((worker, now + CLOSE_LOG_PERIOD_MS));
    }

    /// Logs what is due, and lets workers tell again.
    pub(super) fn watch_closes(&mut self) {
        if self.watch.deadline().is_none() {
            return;
        }
        let now = self.clock.now().mono;
        while let Some(group) = self.watch.log.poll(now) {
            log!(group.level(), "{group}");
        }
        let employees = &mut self.employees;
        self.watch.told.retain(|&(worker, at)| {
            if at <= now {
                employees[worker.index()].order(Command::TellOfCloses);
            }
            at > now
        });
    }

    /// Somebody asks about connections that ended.
    pub(super) fn take_close_request(&mut self, asker: Asker, words: &[&str]) {
        if self.stage == Stage::Stopping {
            return self.refuse(asker, "it is stopping");
        }
        match CloseQuery::read(words) {
            Err(why) => self.refuse(asker, &why),
            Ok(query) => {
                self.watch.inquiries.push_back(Inquiry { asker, query: Arc::new(query) });
                if self.watch.inquiries.len() == 1 {
                    self.ask_for_closes();
                }
            }
        }
    }

    /// Asks the workers the first of the questions.
    fn ask_for_closes(&mut self) {
        let Some(inquiry) = self.watch.inquiries.front() else { return };
        let query = Arc::clone(&inquiry.query);
        self.watch.answers = vec![None; self.employees.len()];
        self.command(&Command::FindCloses(query));
    }

    /// A worker answered.
    pub(super) fn hear_closes(&mut self, worker: ShardId, answer: CloseAnswer) {
        self.watch.answers[worker.index()] = Some(answer);
        if self.watch.answers.iter().any(Option::is_none) {
            return;
        }
        let answers = std::mem::take(&mut self.watch.answers).into_iter().flatten();
        if let Some(Inquiry { asker, query }) = self.watch.inquiries.pop_front() {
            let lines = lines(answers.collect(), query.last);
            self.answer(asker, &lines);
        }
        self.ask_for_closes();
    }
}

/// All workers' answers in the order of time, the `last` of them, and how many closes each worker
/// has had.
fn lines(answers: Vec<CloseAnswer>, last: usize) -> Vec<Value> {
    let totals: Vec<u64> = answers.iter().map(|answer| answer.total).collect();
    let mut found: Vec<(u16, Numbered)> = (0..)
        .zip(answers)
        .flat_map(|(worker, answer)| answer.found.into_iter().map(move |one| (worker, one)))
        .collect();
    found.sort_by_key(|(worker, (number, record))| (record.closed_ms(), *worker, *number));
    let skipped = found.len().saturating_sub(last);
    let told = found.into_iter().skip(skipped);
    let mut lines: Vec<Value> =
        told.map(|(worker, (number, record))| json!(record.tell(worker, number))).collect();
    lines.push(json!({ "closes": totals }));
    lines
}

#[cfg(test)]
mod tests {
    use super::super::close_record::samples::record;
    use super::*;
    use crate::base::counters::CloseReason;

    #[test]
    fn answers_of_several_workers_are_one_list_that_ends_with_their_totals() {
        let answer = |numbers: &[u64], total| CloseAnswer {
            found: numbers.iter().map(|&at| (at, record(CloseReason::Bye, "ann"))).collect(),
            total,
        };
        let lines = lines(vec![answer(&[8, 9], 9), answer(&[1], 1)], 2);
        let place = |line: &Value| (line["worker"].as_u64().unwrap(), line["number"].as_u64());
        assert_eq!(place(&lines[0]), (0, Some(9)), "the oldest was left out");
        assert_eq!(place(&lines[1]), (1, Some(1)));
        assert_eq!(lines[2], json!({ "closes": [9, 1] }));
    }
}

//! What a shard has asked others for and was not answered.
//!
//! Owns a list for each other shard, in the order of the questions, so that a shard that begins
//! anew without its memory leaves nobody waiting: what it was asked is asked again, or refused.
//! Requests with a ref are not in it, which the [`refs`](super::refs) of their sessions remember.
//! Never asks and never answers: letters pass by here on their way out and in.

use std::collections::VecDeque;

use crate::base::ids::{ConnId, Ref, ShardId};
use crate::base::name::Name;

use super::catch_up::Round;
use super::excess::Purpose;
use super::mail::{Asked, Mail, Since};
use super::membership::Stay;

/// A question that is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// A join.
    Join {
        /// Who joins.
        conn: ConnId,
        /// The request's number.
        reference: Ref,
        /// The stay.
        stay: Stay,
        /// It was a member already.
        again: bool,
        /// What was asked for of the past.
        since: Since,
    },
    /// Who is in a room.
    Who(ConnId, Ref),
    /// What was said in a room.
    History(ConnId, Ref),
    /// A page of a replay.
    Page(ConnId, Round),
    /// A page of direct messages.
    Directs(ConnId),
    /// A direct message without a ref.
    Direct(ConnId),
    /// Room for a session.
    Room(ConnId, Name, Purpose),
    /// A session that is to go on.
    Claim(ConnId),
    /// The numbers.
    Stats,
}

impl Awaited {
    /// What a letter on its way out asks for; none where it asks for nothing, or has a ref.
    fn by(mail: &Mail) -> Option<Awaited> {
        Some(match mail {
            Mail::Join { member, reference, stay, again, since, .. } => Awaited::Join {
                conn: member.conn(),
                reference: *reference,
                stay: *stay,
                again: *again,
                since: *since,
            },
            Mail::Who { origin, reference, .. } => Awaited::Who(origin.conn(), *reference),
            Mail::History { origin, reference, .. } => Awaited::History(origin.conn(), *reference),
            Mail::NextPage { member, round, .. } => Awaited::Page(member.conn(), *round),
            Mail::NextDirects { session, .. } => Awaited::Directs(session.conn()),
            Mail::Direct { origin, reference, .. } if !reference.wants_answer() => {
                Awaited::Direct(origin.conn())
            }
            Mail::Ask { user, session, purpose } => {
                Awaited::Room(session.conn(), user.clone(), *purpose)
            }
            Mail::Claim { claimer, .. } => Awaited::Claim(claimer.conn()),
            Mail::AskStats => Awaited::Stats,
            _ => return None,
        })
    }

    /// Whether a letter on its way in is the answer.
    fn is_answered_by(&self, mail: &Mail) -> bool {
        match (self, mail) {
            (Awaited::Join { conn, stay, .. }, Mail::Joined { conn: to, stay: of, .. }) => {
                (conn, stay) == (to, of)
            }
            (Awaited::Page(conn, round), Mail::Page { conn: to, round: of, .. }) => {
                (conn, round) == (to, of)
            }
            (Awaited::Who(conn, asked), Mail::Roster { conn: to, reference, .. })
            | (Awaited::History(conn, asked), Mail::Listed { conn: to, reference, .. }) => {
                (conn, asked) == (to, reference)
            }
            (Awaited::Directs(conn), Mail::Directs(page)) => page.asked && *conn == page.conn,
            (Awaited::Direct(conn), Mail::DirectDone { conn: to, reference, .. }) => {
                conn == to && !reference.wants_answer()
            }
            (Awaited::Room(conn, name, of), Mail::Answer { conn: to, user, purpose, .. }) => {
                (conn, name, of) == (to, user, purpose)
            }
            (Awaited::Claim(conn), Mail::Granted { conn: to, .. } | Mail::Denied { conn: to }) => {
                conn == to
            }
            (Awaited::Stats, Mail::Stats(_)) => true,
            (_, Mail::Refused { conn, reference, request, .. }) => {
                self.is_refused_by(*conn, *reference, *request)
            }
            _ => false,
        }
    }

    fn is_refused_by(&self, to: ConnId, reference: Ref, request: Asked) -> bool {
        match (self, request) {
            (Awaited::Join { conn, stay, .. }, Asked::Join { stay: of }) => {
                (*conn, *stay) == (to, of)
            }
            (Awaited::Who(conn, asked), Asked::Who)
            | (Awaited::History(conn, asked), Asked::History) => (*conn, *asked) == (to, reference),
            (Awaited::Direct(conn), Asked::Direct) => *conn == to && !reference.wants_answer(),
            _ => false,
        }
    }
}

/// The questions that other shards have not answered.
#[derive(Debug)]
pub struct Questions {
    asked: Vec<VecDeque<Awaited>>,
}

impl Questions {
    /// None of `shards` was asked anything.
    pub fn new(shards: u16) -> Questions {
        let asked = std::iter::repeat_with(VecDeque::new).take(usize::from(shards)).collect();
        Questions { asked }
    }

    /// A letter leaves for `to`.
    pub fn note_asked(&mut self, to: ShardId, mail: &Mail) {
        self.asked[to.index()].extend(Awaited::by(mail));
    }

    /// A letter has come from `from`. Most answers come in the order of the questions.
    pub fn note_answered(&mut self, from: ShardId, mail: &Mail) {
        let may_answer = match mail {
            Mail::DirectDone { reference, .. } => !reference.wants_answer(),
            Mail::Refused { request, .. } => *request != Asked::Publish,
            Mail::Joined { .. }
            | Mail::Page { .. }
            | Mail::Roster { .. }
            | Mail::Listed { .. }
            | Mail::Directs(_)
            | Mail::Answer { .. }
            | Mail::Granted { .. }
            | Mail::Denied { .. }
            | Mail::Stats(_) => true,
            _ => false,
        };
        if !may_answer {
            return;
        }
        let asked = &mut self.asked[from.index()];
        if let Some(index) = asked.iter().position(|question| question.is_answered_by(mail)) {
            asked.remove(index);
        }
    }

    /// Takes out what `of` has not answered, and never will.
    pub fn take(&mut self, of: ShardId) -> VecDeque<Awaited> {
        std::mem::take(&mut self.asked[of.index()])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.asked.iter().map(VecDeque::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back the memory of a burst.
    pub fn trim(&mut self) {
        for asked in self.asked.iter_mut().filter(|asked| asked.is_empty()) {
            asked.shrink_to_fit();
        }
    }
}

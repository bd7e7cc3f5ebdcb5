//! What the program asks the client for.
//!
//! Owns the judgement of a request before it is queued, and when it is sent: not before the rooms
//! of an earlier connection are joined again. Called by the shells.

use std::mem;
use std::sync::Arc;

use super::core::{Core, Link, Moment};
use super::event::{Answer, Event, Place, RequestError, State, Ticket};
use super::membership::{Membership, Since};
use super::requests::{Ask, Pending, Requests, Sent};
use crate::base::ids::{Epoch, Seq};
use crate::base::name;
use crate::wire::message::Request;

/// How to be in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinOptions {
    /// Be told of joins and leaves.
    pub notify: bool,
    /// What follows this place comes first, as far as it is kept. Its `seq` must not be 0. In a
    /// room that is joined already it means nothing: what follows the last message that was told
    /// comes anyway.
    pub since: Option<Place>,
}

impl Default for JoinOptions {
    fn default() -> JoinOptions {
        JoinOptions { notify: true, since: None }
    }
}

impl Core {
    /// Joins a room, and stays a member through reconnects.
    ///
    /// # Errors
    /// What makes the request impossible. Nothing was asked then.
    pub fn join(
        &mut self,
        room: &str,
        options: JoinOptions,
        now: Moment,
    ) -> Result<Ticket, RequestError> {
        let room = checked(room)?;
        let ticket = self.ask(Ask::Join { room: Arc::clone(&room) }, now, |core| {
            let JoinOptions { notify, since } = options;
            let since = since.filter(|place| place.seq > Seq(0));
            let new = || Membership::new(notify, since);
            core.rooms.entry(room).or_insert_with(new).notify = notify;
        })?;
        Ok(ticket)
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// As for [`Core::join`].
    pub fn leave(&mut self, room: &str, now: Moment) -> Result<Ticket, RequestError> {
        let room = checked(room)?;
        self.ask(Ask::Leave { room: Arc::clone(&room) }, now, |core| {
            core.rooms.remove(&room);
        })
    }

    /// Says something in a room. With `echo` it comes back as a message too.
    ///
    /// # Errors
    /// As for [`Core::join`].
    pub fn publish(
        &mut self,
        room: &str,
        body: &[u8],
        echo: bool,
        now: Moment,
    ) -> Result<Ticket, RequestError> {
        let room = checked(room)?;
        self.ask(Ask::Publish { room, body: body.to_vec(), echo }, now, |_| {})
    }

    /// Says something to one user.
    ///
    /// # Errors
    /// As for [`Core::join`].
    pub fn direct(&mut self, user: &str, body: &[u8], now: Moment) -> Result<Ticket, RequestError> {
        name::check(user).map_err(RequestError::Name)?;
        self.ask(Ask::Direct { user: user.to_owned(), body: body.to_vec() }, now, |_| {})
    }

    /// Asks who is in a room.
    ///
    /// # Errors
    /// As for [`Core::join`].
    pub fn who(&mut self, room: &str, now: Moment) -> Result<Ticket, RequestError> {
        let room = checked(room)?;
        self.ask(Ask::Who { room }, now, |_| {})
    }

    /// Asks what was said in a room behind `since`, oldest first; 0 is from the oldest on. At most
    /// `limit` messages come, where that is not 0, and at most 1,000 and 64 KiB in one answer:
    /// whoever has not reached its `head` asks again, from the last message on.
    ///
    /// # Errors
    /// As for [`Core::join`].
    pub fn history(
        &mut self,
        room: &str,
        since: Seq,
        limit: u16,
        now: Moment,
    ) -> Result<Ticket, RequestError> {
        let room = checked(room)?;
        self.ask(Ask::History { room, since, limit }, now, |_| {})
    }

    /// Every direct message up to `id` has arrived, with
    /// [`Acknowledge::ByHand`](super::config::Acknowledge::ByHand). Where the connection is lost
    /// before the server hears it, this client hears them no second time, and says so again.
    pub fn acknowledge(&mut self, id: u64) {
        self.ack_due = self.ack_due.max(Some(id));
        self.acknowledged = self.acknowledged.max(Some(id));
    }

    fn ask(
        &mut self,
        ask: Ask,
        now: Moment,
        then: impl FnOnce(&mut Core),
    ) -> Result<Ticket, RequestError> {
        if matches!(self.state, State::Closed { .. }) {
            return Err(RequestError::Closed);
        }
        let ticket = self.requests.push(ask)?;
        then(self);
        self.transmit(now);
        Ok(ticket)
    }

    /// Sends what waits and may be sent.
    pub(super) fn transmit(&mut self, now: Moment) {
        if self.link != Link::Online || self.goes_until_us.is_some() {
            return;
        }
        let gated = self.requests.iter().any(|pending| pending.gates);
        let mut too_long = Vec::new();
        // The queue is taken out of the way, so that the rest of the client can be asked.
        let mut requests = mem::replace(&mut self.requests, Requests::new(0));
        for pending in requests.iter_mut() {
            let idle = pending.sent == Sent::Never && pending.not_before_us <= now.us;
            if idle && (!gated || pending.ask.is_movement()) && !self.send(pending) {
                too_long.push(pending.reference);
            }
        }
        self.requests = requests;
        for reference in too_long {
            if let Some(pending) = self.requests.take(reference) {
                let max_frame = self.max_frame;
                self.fail(pending, RequestError::TooLong { max_frame });
            }
        }
    }

    /// Puts the frame of a request behind what is to be written. Not if it would be too long.
    fn send(&mut self, pending: &mut Pending) -> bool {
        pending.not_before_us = 0;
        let (mut epoch, mut since, mut notify) = (Epoch(0), Seq(0), false);
        if let Ask::Join { room } = &pending.ask
            && let Some(member) = self.rooms.get(room)
        {
            notify = member.notify;
            // After several refusals it shall at least be a member again.
            let hopeless = pending.refused > REFUSALS_BORNE;
            pending.since = if hopeless { Since::Live } else { member.since() };
            (epoch, since) = match pending.since {
                Since::Live => (Epoch(0), Seq(0)),
                Since::Place(place) => (place.epoch, place.seq),
                Since::Everything => (member.foreign_epoch(), Seq(1)),
            };
        }
        let request = pending.request(epoch, since, notify);
        if payload_len(&request) > self.max_frame {
            return false;
        }
        let offset = self.say(&request);
        pending.sent = Sent::On { connection: self.connection, offset };
        true
    }

    /// A request is not done.
    pub(super) fn fail(&mut self, pending: Pending, error: RequestError) {
        self.settle(pending, Err(error));
    }

    /// Tells what came of a request. Messages that were held because they looked like this one are
    /// told after all, unless an answer names their place or may still do.
    pub(super) fn settle(&mut self, pending: Pending, answer: Result<Answer, RequestError>) {
        if let Ask::Publish { room, body, .. } = &pending.ask {
            let place = match &answer {
                Ok(Answer::Sent(receipt)) => Some(receipt.place),
                _ => None,
            };
            for message in self.requests.release(room, body, place) {
                self.tell(Event::Message(message));
            }
        }
        if let Some(ticket) = pending.ticket {
            self.tell(Event::Answered(ticket, answer));
        }
    }
}

/// Bytes of a request's payload, as far as its length is not fixed and small.
fn payload_len(request: &Request<'_>) -> usize {
    match request {
        Request::Publish { room, body, .. } => 4 + 1 + room.len() + body.len(),
        Request::Direct { user, body, .. } => 4 + 1 + user.len() + body.len(),
        _ => 0,
    }
}

/// So often a JOIN that the server has no room for is asked again with what was missed.
pub(super) const REFUSALS_BORNE: u32 = 3;

fn checked(room: &str) -> Result<Arc<str>, RequestError> {
    name::check(room).map_err(RequestError::Name)?;
    Ok(room.into())
}

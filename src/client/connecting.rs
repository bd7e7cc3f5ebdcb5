//! How connections come and go.
//!
//! Owns the way from a call to a welcome, what is lost with a connection and what outlives it, and
//! when to try again. Never opens anything: the shells do what [`Command`] says. Called by
//! [`Core`](super::core::Core).

use std::mem;
use std::sync::Arc;

use super::config::Resend;
use super::core::{Command, Core, Link, Moment, Session, Timers, us_of};
use super::event::{Event, Refusal, RequestError, State};
use super::pulse::Pulse;
use super::requests::{Ask, Pending};
use crate::wire::message::{Code, Hello, Request, Welcome};
use crate::wire::native;

impl Core {
    /// The connection is open.
    pub fn connected(&mut self, _now: Moment) {
        assert_eq!(self.link, Link::Dialing, "a connection opens once");
        self.link = Link::Greeting;
        // A goodbye that the last connection did not take is not for this one.
        self.output.clear();
        (self.output_begun, self.written) = (0, 0);
        self.asked_to_resume = self.session.is_some();
        let session = self.session.unwrap_or(Session { id: 0, resume_key: 0 });
        let user = Arc::clone(&self.user);
        let token = mem::take(&mut self.config.token);
        self.say(&Request::Hello(Hello {
            version: native::VERSION,
            heartbeat_s: self.config.heartbeat_s,
            session: session.id,
            resume_key: session.resume_key,
            user: &user,
            token: &token,
            crc: self.config.crc,
        }));
        self.config.token = token;
    }

    /// The connection, or the try to open one, has ended.
    pub fn disconnected(&mut self, reason: &str, now: Moment) {
        if self.link != Link::Down {
            self.lose(reason, now);
        }
    }

    pub(super) fn dial(&mut self, now: Moment) {
        let endpoint = match self.redirect.take() {
            Some(endpoint) => endpoint,
            None => self.config.endpoints[self.next_endpoint].clone(),
        };
        self.connection += 1;
        self.link = Link::Dialing;
        let give_up = now.us.saturating_add(us_of(self.config.connect_timeout));
        self.timers = Timers { retry: None, give_up: Some(give_up) };
        self.goes_until_us = None;
        self.last_refusal = None;
        self.endpoint = endpoint.clone();
        self.commands.push_back(Command::Dial(endpoint.clone()));
        let attempt = self.backoff.failed() + 1;
        self.change(State::Connecting { endpoint, attempt });
    }

    /// Lets go of a connection that the shell has closed, or closes next.
    fn drop_link(&mut self) {
        self.requests.lose(self.connection, self.written);
        self.link = Link::Down;
        self.timers = Timers::default();
        self.input = Vec::new();
        self.output = Vec::new();
        (self.output_begun, self.written) = (0, 0);
        self.ack_due = None;
    }

    pub(super) fn lose(&mut self, reason: &str, now: Moment) {
        let greeted = self.link == Link::Online;
        self.drop_link();
        let refusal = self.last_refusal.take();
        if let Some(refusal) = &refusal {
            let first = self.session.is_none() && !greeted;
            let fatal = matches!(refusal.code, Code::Malformed | Code::Unauthorized)
                || refusal.code == Code::Forbidden
                || (refusal.code == Code::Conflict && first);
            if fatal {
                return self.end(Some(refusal.clone()));
            }
        }
        let reason = refusal.map_or_else(|| reason.to_owned(), |refusal| refusal.text);
        let state = match self.goes_until_us.take() {
            Some(until_us) => {
                let until_us = until_us.max(now.us);
                State::Waiting { until_us, attempt: 0, quiet: false, reason }
            }
            None => {
                // The session, if it lives on, is where it was.
                self.redirect = greeted.then(|| self.endpoint.clone());
                if !greeted {
                    self.next_endpoint = (self.next_endpoint + 1) % self.config.endpoints.len();
                }
                let wait = self.backoff.fail();
                let until_us = now.us.saturating_add(wait.us);
                State::Waiting { until_us, attempt: wait.attempt, quiet: wait.quiet, reason }
            }
        };
        if let State::Waiting { until_us, .. } = state {
            self.timers.retry = Some(until_us);
        }
        self.change(state);
    }

    /// Closes for good.
    pub(super) fn end(&mut self, refusal: Option<Refusal>) {
        let goodbye = mem::take(&mut self.output);
        let begun = self.output_begun;
        let open = matches!(self.link, Link::Dialing | Link::Greeting | Link::Online);
        self.drop_link();
        if open && refusal.is_none() {
            (self.output, self.output_begun) = (goodbye, begun);
            self.commands.push_back(Command::HangUp);
        }
        while let Some(pending) = self.requests.take_where(|_| true) {
            self.fail(pending, RequestError::Closed);
        }
        self.rooms.clear();
        self.session = None;
        self.change(State::Closed { refusal });
    }

    pub(super) fn welcome(&mut self, welcome: &Welcome<'_>, now: Moment) {
        self.backoff.reset();
        self.link = Link::Online;
        self.timers.give_up = None;
        self.user = welcome.user.into();
        self.session = Some(Session { id: welcome.session, resume_key: welcome.resume_key });
        self.max_frame = welcome.max_frame as usize;
        let resumed = welcome.resumed;
        if !resumed {
            self.sessions += 1;
            self.ack_due = None;
            self.acknowledged = None;
        }
        if !resumed && self.config.resend == Resend::WithinSession {
            let lost = |pending: &Pending| pending.repeated && pending.ask.is_said();
            while let Some(pending) = self.requests.take_where(lost) {
                self.fail(pending, RequestError::Uncertain);
            }
        }
        let user = Arc::clone(&self.user);
        self.change(State::Online { endpoint: self.endpoint.clone(), user, resumed });
        self.tell(Event::Tempo { heartbeat_s: welcome.heartbeat_s, timeout_s: welcome.timeout_s });
        self.pulse = Pulse::new(us_of(self.config.ping_every), us_of(self.config.pong_timeout));
        self.rejoin();
        self.expire(now);
    }

    /// Joins again what was joined. What we say before we are back would look like what we missed.
    ///
    /// Also in a session that goes on: the server replays from what it wrote, and only we know what
    /// has arrived, since a proxy may have taken bytes and lost them.
    fn rejoin(&mut self) {
        let rooms: Vec<Arc<str>> = self.rooms.keys().cloned().collect();
        for room in rooms {
            if !self.requests.iter().any(|pending| pending.ask.joins(&room)) {
                self.requests.push_inner(Ask::Join { room }, true);
            }
        }
        for pending in self.requests.iter_mut().filter(|pending| pending.ask.is_movement()) {
            pending.gates = true;
            (pending.refused, pending.not_before_us) = (0, 0);
        }
    }
}

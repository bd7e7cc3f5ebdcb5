//! What an object says.
//!
//! Owns which members belong to which `op`, and which of them may be missing. Never judges what it
//! read. Called through [`json`](super) by the heart, the load tools and the tests.

use super::member::{Member, Object};
use crate::base::ids::{Epoch, NodeId, Ref, Seq};
use crate::wire::message::{
    Code, Event, Heartbeat, Hello, OkFlags, PresenceKind, Request, Welcome, WireError,
};

/// The version that the subprotocol's name tells.
const VERSION: u8 = 1;

impl Object<'_> {
    /// What an object from a client asks for. `Ok(None)` is an object of unknown `op` that has
    /// `"optional":true` and is to be skipped; what only a server says is unknown here.
    ///
    /// # Errors
    /// [`WireError::Member`] and [`WireError::UnknownOp`].
    pub fn request(&self) -> Result<Option<Request<'_>>, WireError> {
        let request = match self.text(Member::Op)? {
            "publish" => Request::Publish {
                reference: self.reference()?,
                room: self.text(Member::Room)?,
                body: self.body()?,
                echo: self.flag(Member::Echo)?,
            },
            "hello" => Request::Hello(self.hello()?),
            "ping" => Request::Ping(self.heartbeat()?),
            "pong" => Request::Pong(self.heartbeat()?),
            "bye" => Request::Bye {
                code: self.number_or(Member::Code, 0)?,
                reason: self.text_or_empty(Member::Reason)?,
            },
            "echo" => Request::Echo(self.body()?),
            "join" => Request::Join {
                reference: self.reference()?,
                epoch: Epoch(self.number_or(Member::Epoch, 0)?),
                since: Seq(self.number_or(Member::Since, 0)?),
                room: self.text(Member::Room)?,
                notify: self.flag(Member::Notify)?,
            },
            "leave" => {
                Request::Leave { reference: self.reference()?, room: self.text(Member::Room)? }
            }
            "direct" => Request::Direct {
                reference: self.reference()?,
                user: self.text(Member::User)?,
                body: self.body()?,
            },
            "ack" => Request::Ack { id: self.number(Member::Id)? },
            "history" => Request::History {
                reference: self.reference()?,
                room: self.text(Member::Room)?,
                since: Seq(self.number_or(Member::Since, 0)?),
                limit: self.number_or(Member::Limit, u16::MAX)?,
            },
            "who" => Request::Who { reference: self.reference()?, room: self.text(Member::Room)? },
            _ => return self.unknown(),
        };
        Ok(Some(request))
    }

    /// What an object from the server tells. `Ok(None)` is to be skipped: an object of unknown `op`
    /// that has `"optional":true`, or a presence of a kind that version 1 does not name.
    ///
    /// # Errors
    /// [`WireError::Member`] and [`WireError::UnknownOp`].
    pub fn event(&self) -> Result<Option<Event<'_>>, WireError> {
        let event = match self.text(Member::Op)? {
            "message" => Event::Message {
                epoch: self.epoch()?,
                seq: Seq(self.number(Member::Seq)?),
                time_ms: self.number(Member::TimeMs)?,
                room: self.text(Member::Room)?,
                from: self.text(Member::From)?,
                body: self.body()?,
                replay: self.flag(Member::Replay)?,
            },
            "direct" => Event::Direct {
                id: self.number(Member::Id)?,
                time_ms: self.number(Member::TimeMs)?,
                from: self.text(Member::From)?,
                body: self.body()?,
                replay: self.flag(Member::Replay)?,
            },
            "welcome" => Event::Welcome(self.welcome()?),
            "ping" => Event::Ping(self.heartbeat()?),
            "pong" => Event::Pong(self.heartbeat()?),
            "bye" => {
                Event::Bye { code: self.number(Member::Code)?, reason: self.text(Member::Reason)? }
            }
            "echo" => Event::Echo(self.body()?),
            "ok" => self.ok()?,
            "error" => Event::Error {
                reference: self.reference()?,
                code: Code::of_number(self.number(Member::Code)?),
                text: self.text(Member::Text)?,
            },
            "presence" => return self.presence(),
            "roster" => Event::Roster {
                reference: self.reference()?,
                room: self.text(Member::Room)?,
                total: self.number(Member::Total)?,
                users: self.names()?,
            },
            "goaway" => Event::GoAway {
                reconnect_after_ms: self.number(Member::ReconnectAfterMs)?,
                reason: self.text(Member::Reason)?,
                address: self.text(Member::Address)?,
            },
            "gap" => Event::Gap {
                epoch: self.epoch()?,
                from: Seq(self.number(Member::From)?),
                to: Seq(self.number(Member::To)?),
                room: self.text(Member::Room)?,
            },
            "tempo" => Event::Tempo {
                heartbeat_s: self.number(Member::HeartbeatS)?,
                timeout_s: self.number(Member::TimeoutS)?,
            },
            _ => return self.unknown(),
        };
        Ok(Some(event))
    }

    fn unknown<T>(&self) -> Result<Option<T>, WireError> {
        if self.flag(Member::Optional)? { Ok(None) } else { Err(WireError::UnknownOp) }
    }

    fn reference(&self) -> Result<Ref, WireError> {
        Ok(Ref(self.number_or(Member::Reference, 0)?))
    }

    fn epoch(&self) -> Result<Epoch, WireError> {
        Ok(Epoch(self.number(Member::Epoch)?))
    }

    fn hello(&self) -> Result<Hello<'_>, WireError> {
        Ok(Hello {
            version: VERSION,
            heartbeat_s: self.number_or(Member::HeartbeatS, 0)?,
            session: self.identity(Member::Session)?,
            resume_key: self.identity(Member::ResumeKey)?,
            user: self.text_or_empty(Member::User)?,
            token: self.text_or_empty(Member::Token)?,
            crc: false,
        })
    }

    fn welcome(&self) -> Result<Welcome<'_>, WireError> {
        Ok(Welcome {
            version: VERSION,
            node: NodeId(self.number(Member::Node)?),
            session: self.identity(Member::Session)?,
            resume_key: self.identity(Member::ResumeKey)?,
            heartbeat_s: self.number(Member::HeartbeatS)?,
            timeout_s: self.number(Member::TimeoutS)?,
            max_frame: self.number(Member::MaxFrame)?,
            resumed: self.flag(Member::Resumed)?,
            user: self.text(Member::User)?,
        })
    }

    fn ok(&self) -> Result<Event<'_>, WireError> {
        let flags = OkFlags {
            gap: self.flag(Member::Gap)?,
            queued: self.flag(Member::Queued)?,
            duplicate: self.flag(Member::Duplicate)?,
        };
        let (epoch, seq) = (self.epoch()?, Seq(self.number(Member::Seq)?));
        Ok(Event::Ok { reference: self.reference()?, flags, epoch, seq })
    }

    fn heartbeat(&self) -> Result<Heartbeat, WireError> {
        Ok(Heartbeat {
            node: NodeId(self.number_or(Member::Node, 0)?),
            time_ms: self.number_or(Member::TimeMs, 0)?,
            status: self.number_or(Member::Status, 0)?,
            seq: self.number_or(Member::Seq, 0)?,
        })
    }

    fn presence(&self) -> Result<Option<Event<'_>>, WireError> {
        let kind = match self.text(Member::Kind)? {
            "joined" => PresenceKind::Joined,
            "left" => PresenceKind::Left,
            "online" => PresenceKind::Online,
            "offline" => PresenceKind::Offline,
            "many" => PresenceKind::Many,
            _ => return Ok(None),
        };
        Ok(Some(Event::Presence {
            kind,
            total: self.number_or(Member::Total, 0)?,
            room: self.text_or_empty(Member::Room)?,
            user: self.text_or_empty(Member::User)?,
        }))
    }
}

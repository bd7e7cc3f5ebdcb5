//! How a server hands its place to another process.
//!
//! Owns what it offers to one that asks, and the moment at which it lets go. Never knows how the
//! other one starts: [`predecessor`](super::predecessor) does, at the other end of the same
//! conversation. The steward's [inquiries](super::inquiries) call it.
//!
//! `take-over PID` is answered by an offer, with which the listeners travel; from there both
//! have them, and this server goes on as ever. `ready` ends that: it accepts no more and sends its
//! connections on. The answer to `ready` is one line, and the conversation is held open until this
//! server has closed all it had, so that its end tells when the store is free. If the other one
//! hangs up or takes too long before it is ready, nothing has happened. If this one is told to stop
//! before, the other one has its place all the same.

use std::path::PathBuf;

use log::info;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::desk::Asker;
use super::parcel::Waiting;
use super::steward::{Stage, Steward};
use crate::base::limits::TAKE_OVER_PATIENCE_MS;

/// What another process is told before it takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    /// The process that offers.
    pub(super) pid: u32,
    /// Where it listens.
    pub(super) address: std::net::SocketAddr,
    /// Its number in the eyes of clients.
    pub(super) node: u32,
    /// Where its store is, which is free when the conversation ends.
    pub(super) data: Option<PathBuf>,
    /// How many listeners come with this.
    pub(super) listeners: usize,
}

/// What of a server its successor must share with it.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) address: std::net::SocketAddr,
    pub(super) node: u32,
    pub(super) data: Option<PathBuf>,
}

/// A process that is about to take over.
#[derive(Clone, Debug)]
pub(super) struct Successor {
    asker: Asker,
    pid: String,
}

impl Steward {
    /// Offers this server's place.
    pub(super) fn offer(&mut self, asker: Asker, pid: &str) {
        if self.stage != Stage::Serving {
            return self.refuse(asker, "the server is ending already");
        }
        if let Some(successor) = &self.successor {
            let why = format!("process {} is taking over already", successor.pid);
            return self.refuse(asker, &why);
        }
        let Some(listeners) = &self.listeners else {
            return self.refuse(asker, "the server has not started yet");
        };
        let copies = match listeners.copies() {
            Ok(copies) => copies,
            Err(error) => {
                let why = format!("the listeners cannot be handed over: {error}");
                return self.refuse(asker, &why);
            }
        };
        let offer = Offer {
            pid: std::process::id(),
            address: self.identity.address,
            node: self.identity.node,
            data: self.identity.data.clone(),
            listeners: copies.len(),
        };
        info!("process {pid} asks to take over");
        self.successor = Some(Successor { asker, pid: pid.to_owned() });
        let now = self.clock.now().mono;
        if let Some(desk) = &mut self.desk {
            desk.send_along(asker, copies);
            desk.say(asker, &serde_json::to_value(offer).expect("plain data"));
            desk.finish(asker, now);
            desk.wait_until(asker, now + TAKE_OVER_PATIENCE_MS);
        }
    }

    /// The successor is ready: lets go.
    pub(super) fn hand_over(&mut self, asker: Asker) {
        let Some(successor) = self.successor.clone().filter(|it| it.asker == asker) else {
            return self.refuse(asker, "nothing was offered; ask to take over first");
        };
        info!(
            "process {} takes over: it has the listeners, and takes in whoever comes",
            successor.pid
        );
        if let Some(desk) = &mut self.desk {
            // Not finished: the end of this conversation is the end of this server.
            desk.say(asker, &json!({ "handed_over": true }));
        }
        // A signal may have come since the offer. Then this server ends as it was told, and would
        // leave nobody at the port if it refused.
        if matches!(self.stage, Stage::Serving | Stage::Leaving { .. }) {
            self.shut_doors(Waiting::Left);
        }
    }

    /// Goes on as before where the successor hung up before it was ready.
    pub(super) fn miss_successor(&mut self) {
        let Some(successor) = &self.successor else { return };
        let is_there = self.desk.as_ref().is_some_and(|desk| desk.has(successor.asker));
        if !is_there && self.stage == Stage::Serving {
            info!("process {} does not take over after all; serving on", successor.pid);
            self.successor = None;
        }
    }
}

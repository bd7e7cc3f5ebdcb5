//! What all connections share.
//!
//! Owns the table of rooms, the list of connections for the farewell, and the numbers that are
//! given out. Never reads or writes a socket.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corebeat::base::limits::RECONNECT_AFTER_MS;
use corebeat::base::name::Name;
use corebeat::wire::message::Event;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::common::service::Service;
use super::parcel::Parcel;
use super::peer::{Outbound, Peer, PeerId};
use super::room::Rooms;

/// What all connections share.
#[derive(Debug)]
pub struct Hub {
    /// Limits, clocks and the like.
    pub service: Service,
    /// The rooms.
    pub rooms: Rooms,
    peers: Mutex<HashMap<PeerId, Arc<Peer>>>,
    emptied: Notify,
    max_peers: usize,
    last_peer: AtomicU64,
    last_guest: AtomicU64,
}

impl Hub {
    /// A hub without connections, for so many workers.
    pub fn new(service: Service, workers: usize) -> Hub {
        Hub {
            max_peers: service.limits.max_connections * workers,
            rooms: Rooms::new(&service.limits),
            service,
            peers: Mutex::default(),
            emptied: Notify::new(),
            last_peer: AtomicU64::new(0),
            last_guest: AtomicU64::new(0),
        }
    }

    /// Whether one more connection may come.
    pub fn has_room(&self) -> bool {
        self.peers().len() < self.max_peers
    }

    /// Lists a new connection whose writer reads from the other end of `outbound`.
    pub fn admit(&self, outbound: Outbound) -> Arc<Peer> {
        let id = self.last_peer.fetch_add(1, Ordering::Relaxed) + 1;
        let peer = Arc::new(Peer::new(id, outbound, &self.service.limits));
        self.peers().insert(id, Arc::clone(&peer));
        peer
    }

    /// A connection has ended.
    pub fn dismiss(&self, peer: &Peer) {
        let mut peers = self.peers();
        peers.remove(&peer.id);
        if peers.is_empty() {
            self.emptied.notify_one();
        }
    }

    /// A name for a user who gave none.
    pub fn name_guest(&self) -> Name {
        let number = self.last_guest.fetch_add(1, Ordering::Relaxed) + 1;
        Name::new(&format!("guest-{number}"))
    }

    /// Says goodbye to every connection and waits until all are gone, at most so long.
    pub async fn drain(&self, longest: Duration) {
        let peers: Vec<Arc<Peer>> = self.peers().values().cloned().collect();
        for peer in &peers {
            if let Some(identity) = peer.identity.get() {
                let (earliest, latest) = RECONNECT_AFTER_MS;
                let reconnect_after_ms = fastrand::u32(earliest..=latest);
                let reason = "the server is stopping";
                let event = Event::GoAway { reconnect_after_ms, reason, address: "" };
                if let Some(parcel) = Parcel::of(identity.dialect, &event) {
                    peer.deliver(parcel);
                }
            }
            peer.dismiss();
        }
        let emptied = async {
            while !self.peers().is_empty() {
                self.emptied.notified().await;
            }
        };
        // Whoever is left after that is cut.
        let _ = timeout(longest, emptied).await;
    }

    fn peers(&self) -> MutexGuard<'_, HashMap<PeerId, Arc<Peer>>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

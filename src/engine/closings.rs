//! A worker and the connections that end.
//!
//! Owns the worker's end of it: who leaves is written down while the kernel still knows the socket,
//! the heart is told of sockets that failed, and the steward how many left and why. Never closes.

use super::close_journal::{CloseJournal, CloseQuery};
use super::close_log::CloseTally;
use super::close_record::CloseRecord;
use super::close_watch::CloseAnswer;
use super::parcel::News;
use super::worker::Worker;
use crate::base::counters::CloseReason;
use crate::base::ids::ConnId;

/// What a worker knows of the connections that it had.
#[derive(Debug, Default)]
pub(super) struct CloseNotes {
    journal: CloseJournal,
    /// What the steward has not been told.
    untold: CloseTally,
    /// The steward was told, and has not asked since.
    is_told: bool,
}

impl CloseNotes {
    /// Writes down who left.
    pub(super) fn take(&mut self, record: CloseRecord) {
        self.untold.count(&record);
        self.journal.push(record);
    }

    /// What the steward has not been told.
    pub(super) fn into_untold(self) -> CloseTally {
        self.untold
    }
}

impl Worker {
    /// The kernel has given up a connection.
    pub(super) fn fail(&mut self, conn: ConnId, reason: CloseReason) {
        let unacknowledged = self.unacknowledged_bytes(conn);
        self.shard.closed(conn, reason, unacknowledged, self.now);
        self.failed.push(conn);
    }

    pub(super) fn unacknowledged_bytes(&mut self, conn: ConnId) -> usize {
        self.sockets.of(conn).map_or(0, |socket| socket.unacknowledged_bytes())
    }

    /// Part of a phase: writes down whose end was decided. Their sockets are still there, since
    /// they go in the last phase alone.
    pub(super) fn note_closings(&mut self) {
        while let Some(closing) = self.shard.poll_closing() {
            let Some(peer) = self.sockets.peer_of(closing.conn) else { continue };
            let Some(socket) = self.sockets.of(closing.conn) else { continue };
            let (opened, tcp) = (socket.opened(), socket.tcp_info());
            let record = CloseRecord::new(closing, peer, opened, tcp, self.now);
            self.notes.take(record);
        }
    }

    /// Writes down who is still there when the loop is left, and is cut off.
    pub(super) fn note_the_rest(&mut self) {
        for conn in self.sockets.conns() {
            self.shard.cut(conn, self.now);
        }
        self.note_closings();
    }

    /// Tells the steward who left since it was last told, unless that was less than a second ago:
    /// it asks again by then.
    pub(super) fn tell_of_closes(&mut self) {
        if !self.notes.is_told && !self.notes.untold.is_empty() {
            self.notes.is_told = true;
            let untold = std::mem::take(&mut self.notes.untold);
            self.report(News::Closed(untold));
        }
    }

    /// Tells the steward what it asks of those who left.
    pub(super) fn find_closes(&self, query: &CloseQuery) {
        let found = self.notes.journal.find(query, self.id.index());
        let total = self.notes.journal.total();
        self.report(News::FoundCloses(CloseAnswer { found, total }));
    }

    /// The steward asks who left since.
    pub(super) fn may_tell_of_closes(&mut self) {
        self.notes.is_told = false;
    }
}

//! What a room's home says of those who come and go.
//!
//! Owns whether each is told singly or a total is owed, and when that is told. Never counts who is
//! there: the [roster](super::roster) does, and never tells members: their shards do. Called by the
//! [homes](super::homes), and by the timers where a total is due.

use crate::base::ids::Address;
use crate::base::limits::PRESENCE_PERIOD_MS;
use crate::base::name::Name;
use crate::base::time::Now;
use crate::wire::message::PresenceKind;

use super::home::HomeKey;
use super::mail::Mail;
use super::room::Presence;
use super::shard::Shard;

impl Shard {
    /// Tells the members' shards of a join or leave, or, in a crowded room and under pressure, owes
    /// them a total.
    ///
    /// Told singly, the comings and goings of n members are n² events.
    pub(super) fn tell_presence(
        &mut self,
        key: HomeKey,
        kind: PresenceKind,
        user: Name,
        member: Option<Address>,
        now: Now,
    ) {
        let home = self.homes.get(key);
        let total = home.roster.total();
        let is_crowded = total as usize > self.limits.presence_max || home.owes_total;
        if is_crowded || self.strain.pressure.folds_presence() {
            self.counters.presence_folded += 1;
            self.counters.shed_presence += u64::from(!is_crowded);
            return self.owe_total(key, now);
        }
        self.post_presence(key, &Presence { kind, total, user: Some(user), member }, now);
    }

    /// Has the room's members told its total before long.
    pub(super) fn owe_total(&mut self, key: HomeKey, now: Now) {
        let home = self.homes.get_mut(key);
        if !home.owes_total {
            home.owes_total = true;
            self.agenda.owe_total(key, now.mono + PRESENCE_PERIOD_MS);
        }
    }

    /// Tells the total that a room owes, or puts it off while the worker is overloaded.
    pub(super) fn tell_total(&mut self, key: HomeKey, now: Now) {
        let withheld = self.strain.pressure.withholds_totals();
        let home = self.homes.get_mut(key);
        home.owes_total = false;
        if withheld {
            self.counters.shed_presence += 1;
            return self.owe_total(key, now);
        }
        let home = self.homes.get(key);
        let total = home.roster.total();
        self.post_presence(key, &Presence::total(total), now);
    }

    /// Tells the members' shards. To those whose mail is at its bound, the total is owed.
    fn post_presence(&mut self, key: HomeKey, presence: &Presence, now: Now) {
        self.close_batch(key);
        for index in 0..self.homes.get(key).links.len() {
            let home = self.homes.get(key);
            let (to, room) = (home.links[index].shard, home.name.clone());
            if to == self.id {
                self.hear_presence(&room, presence.clone());
            } else if self.is_overloaded(to) {
                self.counters.presence_folded += 1;
                self.owe_total(key, now);
            } else {
                self.counters.mail_out += 1;
                self.postbag.push(to, Mail::Presence { room, presence: presence.clone() });
            }
        }
    }
}

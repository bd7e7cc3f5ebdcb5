//! The changes of a group, bound together into one value of the engine.
//!
//! Owns a log on top of an [`Engine`], and is one itself: each commit puts one *bundle* into the
//! engine below, which then has one key to sort, and one to drop, where it would have had
//! thousands. An index in memory says in which bundle the value of each key lies. Never knows what
//! a key means. The keeper opens it, on the store's thread.
//!
//! | key | value |
//! | --- | --- |
//! | number:u64 | changes, one behind the other |
//!
//! A change is `1` key:str16 value:str32, where a key gets a value, or `2` key:str16, where it has
//! none from there on. Integers are big-endian; str16 and str32 are a length in so many bits and
//! that many bytes.
//!
//! Bundles are dropped from the oldest on, once nothing in them is live; so what strikes a value
//! outlives it. Where little of all that lies there is live, what is in the oldest ones is written
//! once more into the group that is under way, and they are dropped with its commit.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;

use byteorder::{BigEndian, ByteOrder};

use super::codec::Change;
use super::engine::{Engine, Reach, Syncing};
use crate::base::limits::{
    BUNDLE_CLEAN_BYTES, BUNDLE_SLACK_BYTES, BUNDLES_DROPPED_MAX, COMMIT_BYTES,
};

/// Marks of changes.
const PUT: u8 = 1;
const STRIKE: u8 = 2;

/// An engine that keeps what changes together in one value of another. See the [module](self).
pub struct Bundles {
    engine: Box<dyn Engine>,
    /// The bundle of the group that is under way.
    open: Vec<u8>,
    ledger: Ledger,
    /// What was found when it was opened, until it is shown or anything changes.
    found: Option<Values>,
    /// Bytes beside those that are live, and as many again, that may lie there.
    slack: u64,
}

/// Keys and their values.
type Values = BTreeMap<Box<[u8]>, Box<[u8]>>;

impl Bundles {
    /// Reads all bundles that `engine` has.
    ///
    /// # Errors
    /// What the disk says, and [`io::ErrorKind::InvalidData`] for what nobody wrote so.
    pub fn open(engine: Box<dyn Engine>) -> io::Result<Bundles> {
        Bundles::with_slack(engine, BUNDLE_SLACK_BYTES)
    }

    fn with_slack(mut engine: Box<dyn Engine>, slack: u64) -> io::Result<Bundles> {
        let (mut ledger, values) = replay(&mut *engine)?;
        ledger.begin_bundle();
        Ok(Bundles { engine, open: Vec::new(), ledger, found: Some(values), slack })
    }

    /// Writes what is live in the oldest bundles once more, as long as there is too much that is
    /// not live, and no longer than the group that it delays is worth.
    fn clean(&mut self) -> io::Result<()> {
        let most = BUNDLE_CLEAN_BYTES.max(4 * self.open.len());
        let mut read = 0;
        while read < most
            && self.ledger.is_wasteful(self.slack)
            && let Some(number) = self.ledger.oldest()
        {
            let bundle = self.engine.get(&number.to_be_bytes())?.ok_or_else(garbled)?;
            read += bundle.len().max(1);
            let mut changes = Changes::new(&bundle);
            while let Some((offset, change)) = changes.next().ok_or_else(garbled)? {
                let place = Place { bundle: number, offset, bytes: 0 };
                if let Change::Put { key, .. } = change
                    && self.ledger.is_live(key, place)
                {
                    append(&mut self.open, &mut self.ledger, change);
                }
            }
            debug_assert!(self.ledger.oldest_is_dead(), "all that was live is elsewhere now");
            self.drop_dead(1);
        }
        Ok(())
    }

    /// Drops the oldest bundles in which nothing is live, at most `most` of them.
    fn drop_dead(&mut self, most: usize) {
        for _ in 0..most {
            if !self.ledger.oldest_is_dead() {
                break;
            }
            let number = self.ledger.drop_oldest();
            self.engine.stage(Change::Strike { key: &number.to_be_bytes() });
        }
    }
}

impl Engine for Bundles {
    fn stage(&mut self, change: Change<'_>) {
        self.found = None;
        append(&mut self.open, &mut self.ledger, change);
    }

    fn commit(&mut self, reach: Reach) -> io::Result<()> {
        if self.open.is_empty() {
            return self.engine.commit(reach);
        }
        self.clean()?;
        self.drop_dead(BUNDLES_DROPPED_MAX);
        let key = self.ledger.newest().to_be_bytes();
        self.engine.stage(Change::Put { key: &key, value: &self.open });
        self.ledger.end_bundle(self.open.len());
        self.ledger.begin_bundle();
        self.open.clear();
        self.open.shrink_to(COMMIT_BYTES);
        self.engine.commit(reach)
    }

    fn syncing(&self) -> Syncing {
        self.engine.syncing()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.engine.sync()
    }

    fn get(&mut self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(place) = self.ledger.index.get(key).copied() else { return Ok(None) };
        let committed = place.bundle != self.ledger.newest();
        let bundle = match committed {
            true => self.engine.get(&place.bundle.to_be_bytes())?.ok_or_else(garbled)?,
            false => self.open.clone(),
        };
        match Changes::at(&bundle, place.offset).next() {
            Some(Some((_, Change::Put { value, .. }))) => Ok(Some(value.to_vec())),
            _ => Err(garbled()),
        }
    }

    fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        let values = match self.found.take() {
            Some(values) => values,
            None => replay(&mut *self.engine)?.1,
        };
        let _ = values.into_iter().all(|(key, value)| each(&key, &value));
        Ok(())
    }
}

/// Appends a change to the bundle that is open. What strikes nothing is not written.
fn append(open: &mut Vec<u8>, ledger: &mut Ledger, change: Change<'_>) {
    let offset = u32::try_from(open.len()).expect("a group is bounded far below 4 GiB");
    let name = |open: &mut Vec<u8>, mark, key: &[u8]| {
        let length = u16::try_from(key.len()).expect("a key is a name and some numbers");
        open.push(mark);
        open.extend_from_slice(&length.to_be_bytes());
    };
    match change {
        Change::Put { key, value } => {
            name(open, PUT, key);
            let length = u32::try_from(value.len()).expect("a value is far below 4 GiB");
            open.extend_from_slice(&length.to_be_bytes());
            open.extend_from_slice(key);
            open.extend_from_slice(value);
            ledger.put(key, offset, open.len() as u32 - offset);
        }
        Change::Strike { key } => {
            if ledger.strike(key) {
                name(open, STRIKE, key);
                open.extend_from_slice(key);
            }
        }
    }
}

/// What all bundles of `engine` come to.
fn replay(engine: &mut dyn Engine) -> io::Result<(Ledger, Values)> {
    let (mut ledger, mut values) = (Ledger::default(), Values::new());
    let mut sound = true;
    engine.read(&mut |key, bundle| {
        sound = ledger.replay(key, bundle, &mut values).is_some();
        sound
    })?;
    if sound { Ok((ledger, values)) } else { Err(garbled()) }
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a bundle is missing or was not written so")
}

/// The changes in a bundle, from the front.
struct Changes<'a> {
    bundle: &'a [u8],
    offset: usize,
}

impl<'a> Changes<'a> {
    fn new(bundle: &'a [u8]) -> Changes<'a> {
        Changes { bundle, offset: 0 }
    }

    fn at(bundle: &'a [u8], offset: u32) -> Changes<'a> {
        Changes { bundle, offset: offset as usize }
    }

    /// The next one and where it begins; `Some(None)` at the end, and `None` for what is no change.
    fn next(&mut self) -> Option<Option<(u32, Change<'a>)>> {
        let offset = self.offset as u32;
        let Some((&mark, rest)) = self.bundle.get(self.offset..)?.split_first() else {
            return Some(None);
        };
        let (key_length, rest) = rest.split_at_checked(2)?;
        let key_length = usize::from(BigEndian::read_u16(key_length));
        let (change, rest) = match mark {
            PUT => {
                let (value_length, rest) = rest.split_at_checked(4)?;
                let (key, rest) = rest.split_at_checked(key_length)?;
                let value_length = BigEndian::read_u32(value_length) as usize;
                let (value, rest) = rest.split_at_checked(value_length)?;
                (Change::Put { key, value }, rest)
            }
            STRIKE => {
                let (key, rest) = rest.split_at_checked(key_length)?;
                (Change::Strike { key }, rest)
            }
            _ => return None,
        };
        self.offset = self.bundle.len() - rest.len();
        Some(Some((offset, change)))
    }
}

/// Where the value of a key lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    bundle: u64,
    /// Where in it the change begins.
    offset: u32,
    /// How long the change is.
    bytes: u32,
}

/// What is known of one bundle.
#[derive(Clone, Copy, Debug, Default)]
struct Bundle {
    bytes: u32,
    /// Values in it that are live.
    live: u32,
}

/// What is live, where it lies, and how much lies there in all.
#[derive(Debug, Default)]
struct Ledger {
    index: HashMap<Box<[u8]>, Place>,
    /// The oldest first; the last one is open.
    bundles: VecDeque<Bundle>,
    /// The number of the oldest one; the others follow.
    first: u64,
    /// Bytes of all bundles but the open one.
    bytes: u64,
    /// Bytes of all changes that are live.
    live_bytes: u64,
}

impl Ledger {
    fn begin_bundle(&mut self) {
        self.bundles.push_back(Bundle::default());
    }

    fn end_bundle(&mut self, bytes: usize) {
        let bundle = self.bundles.back_mut().expect("one is open");
        bundle.bytes = u32::try_from(bytes).expect("a group is bounded far below 4 GiB");
        self.bytes += bytes as u64;
    }

    /// The number of the open bundle.
    fn newest(&self) -> u64 {
        self.first + self.bundles.len() as u64 - 1
    }

    /// The number of the oldest bundle that is not open.
    fn oldest(&self) -> Option<u64> {
        (self.bundles.len() > 1).then_some(self.first)
    }

    fn oldest_is_dead(&self) -> bool {
        self.bundles.len() > 1 && self.bundles[0].live == 0
    }

    fn drop_oldest(&mut self) -> u64 {
        let bundle = self.bundles.pop_front().expect("there is one beside the open one");
        self.bytes -= u64::from(bundle.bytes);
        self.first += 1;
        self.first - 1
    }

    fn is_wasteful(&self, slack: u64) -> bool {
        self.bytes > 2 * self.live_bytes + slack
    }

    /// Whether the change at a place is what gives the key its value.
    fn is_live(&self, key: &[u8], at: Place) -> bool {
        self.index.get(key).is_some_and(|live| (live.bundle, live.offset) == (at.bundle, at.offset))
    }

    fn put(&mut self, key: &[u8], offset: u32, bytes: u32) {
        let place = Place { bundle: self.newest(), offset, bytes };
        self.bundles.back_mut().expect("one is open").live += 1;
        self.live_bytes += u64::from(bytes);
        if let Some(live) = self.index.get_mut(key) {
            let earlier = std::mem::replace(live, place);
            self.note_dead(earlier);
        } else {
            self.index.insert(key.into(), place);
        }
    }

    /// Returns whether the key had a value.
    fn strike(&mut self, key: &[u8]) -> bool {
        let struck = self.index.remove(key);
        struck.inspect(|place| self.note_dead(*place)).is_some()
    }

    fn note_dead(&mut self, place: Place) {
        self.bundles[(place.bundle - self.first) as usize].live -= 1;
        self.live_bytes -= u64::from(place.bytes);
    }

    /// Takes in the next bundle of those that the engine has.
    fn replay(&mut self, key: &[u8], bundle: &[u8], values: &mut Values) -> Option<()> {
        let number = u64::from_be_bytes(key.try_into().ok()?);
        if self.bundles.is_empty() {
            self.first = number;
        }
        self.begin_bundle();
        if number != self.newest() {
            return None;
        }
        let mut changes = Changes::new(bundle);
        while let Some((offset, change)) = changes.next()? {
            match change {
                Change::Put { key, value } => {
                    self.put(key, offset, changes.offset as u32 - offset);
                    match values.get_mut(key) {
                        Some(earlier) => *earlier = value.into(),
                        None => drop(values.insert(key.into(), value.into())),
                    }
                }
                Change::Strike { key } => {
                    self.strike(key);
                    values.remove(key);
                }
            }
        }
        self.end_bundle(bundle.len());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    type Map = BTreeMap<Vec<u8>, Vec<u8>>;

    /// What outlives a process, and a group that does not.
    #[derive(Clone, Default)]
    struct Below {
        committed: Arc<Mutex<Map>>,
        group: Map,
        struck: Vec<Vec<u8>>,
    }

    impl Engine for Below {
        fn stage(&mut self, change: Change<'_>) {
            match change {
                Change::Put { key, value } => drop(self.group.insert(key.into(), value.into())),
                Change::Strike { key } => self.struck.push(key.into()),
            }
        }

        fn commit(&mut self, _reach: Reach) -> io::Result<()> {
            let mut committed = self.committed.lock().unwrap();
            committed.append(&mut self.group);
            for key in self.struck.drain(..) {
                assert!(committed.remove(&key).is_some(), "what was never there is not struck");
            }
            Ok(())
        }

        fn syncing(&self) -> Syncing {
            Box::new(|| Ok(()))
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn get(&mut self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
            Ok(self.committed.lock().unwrap().get(key).cloned())
        }

        fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
            let _ = self.committed.lock().unwrap().iter().all(|(key, value)| each(key, value));
            Ok(())
        }
    }

    fn open(below: &Below, slack: u64) -> Bundles {
        let new = Below { committed: Arc::clone(&below.committed), ..Below::default() };
        Bundles::with_slack(Box::new(new), slack).unwrap()
    }

    fn all(bundles: &mut Bundles) -> Map {
        let mut all = Map::new();
        let read = bundles.read(&mut |key, value| {
            all.insert(key.to_vec(), value.to_vec());
            true
        });
        read.unwrap();
        all
    }

    #[test]
    fn it_is_a_map_whatever_is_changed_cleaned_and_opened_anew() {
        let most = 600;
        for seed in 0..10 {
            let mut dice = fastrand::Rng::with_seed(seed);
            let (below, mut truth) = (Below::default(), Map::new());
            let mut bundles = open(&below, most);
            let mut cleaned = false;
            for _ in 0..200 {
                let mut next = truth.clone();
                for _ in 0..dice.usize(1..12) {
                    // Some keys change at every turn, and some hardly ever.
                    let key = vec![b'k'; 1 + dice.usize(..8) * dice.usize(..8)];
                    if dice.u32(..3) > 0 {
                        let value = vec![dice.u8(..); dice.usize(..30)];
                        bundles.stage(Change::Put { key: &key, value: &value });
                        next.insert(key, value);
                    } else {
                        bundles.stage(Change::Strike { key: &key });
                        next.remove(&key);
                    }
                }
                if dice.u32(..8) == 0 {
                    // It is lost before it is committed.
                    bundles = open(&below, most);
                } else {
                    let oldest = bundles.ledger.oldest();
                    let was_dead = bundles.ledger.oldest_is_dead();
                    bundles.commit(Reach::System).unwrap();
                    truth = next;
                    cleaned |= !was_dead && bundles.ledger.oldest() != oldest;
                    let lies =
                        below.committed.lock().unwrap().values().map(Vec::len).sum::<usize>();
                    assert_eq!(lies as u64, bundles.ledger.bytes, "seed {seed}");
                    assert!(lies as u64 <= 2 * bundles.ledger.live_bytes + 4 * most, "seed {seed}");
                    if dice.u32(..8) == 0 {
                        bundles = open(&below, most);
                    }
                }
                for (key, value) in &truth {
                    assert_eq!(bundles.get(key).unwrap().as_ref(), Some(value), "seed {seed}");
                }
                assert_eq!(all(&mut bundles), truth, "seed {seed}");
            }
            assert!(cleaned, "seed {seed}");
        }
    }

    #[test]
    fn what_stays_for_long_holds_no_space_for_what_does_not() {
        let (below, slack) = (Below::default(), 4_096);
        let mut bundles = open(&below, slack);
        bundles.stage(Change::Put { key: b"quiet", value: b"for years" });
        for number in 0..2_000_u64 {
            bundles.stage(Change::Put { key: &number.to_be_bytes(), value: &[7; 100] });
            if let Some(old) = number.checked_sub(10) {
                bundles.stage(Change::Strike { key: &old.to_be_bytes() });
            }
            bundles.commit(Reach::System).unwrap();
        }
        assert!(bundles.ledger.bytes < slack + 4 * bundles.ledger.live_bytes);
        assert_eq!(bundles.get(b"quiet").unwrap().as_deref(), Some(&b"for years"[..]));
        let mut again = open(&below, slack);
        assert_eq!(all(&mut again).len(), 11);
    }

    #[test]
    fn what_is_missing_or_cut_is_refused() {
        let below = Below::default();
        let mut bundles = open(&below, 1 << 20);
        for key in [b"a", b"b", b"c"] {
            bundles.stage(Change::Put { key, value: b"value" });
            bundles.commit(Reach::System).unwrap();
        }
        let whole = below.committed.lock().unwrap().clone();
        let refused = |change: &dyn Fn(&mut Map)| {
            let below = Below::default();
            let mut damaged = whole.clone();
            change(&mut damaged);
            *below.committed.lock().unwrap() = damaged;
            let opened = Bundles::open(Box::new(below));
            opened.err().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
        };
        assert!(!refused(&|_| {}));
        let second = whole.keys().nth(1).unwrap();
        assert!(refused(&|map| drop(map.remove(second))));
        for length in 1..whole[second].len() {
            assert!(refused(&|map| map.get_mut(second).unwrap().truncate(length)), "{length}");
        }
        assert!(refused(&|map| map.get_mut(second).unwrap()[0] = 9));
        assert!(refused(&|map| drop(map.insert(vec![1], Vec::new()))));
    }
}

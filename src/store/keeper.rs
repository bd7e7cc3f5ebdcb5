//! The store's work: groups of records to the disk, watermarks back.
//!
//! Owns the open engine and what is known of each shard's records. Takes what lies in its bounded
//! [intake](super::intake) as one group, commits it, and tells every shard that had a part in it
//! how far it has come; what arrives during a commit is the next group. Never decides what is kept,
//! and never waits for a worker: a watermark that finds a mailbox full is kept, and a later one
//! replaces it.
//!
//! After a failed commit nothing is known of what the group left behind. So the engine is dropped
//! and opened anew, again and again until it succeeds, and every shard whose records were lost is
//! told once. What a shard had handed over before it heard of that is dropped: it is told by the
//! generation, which the shard counts up as it hears. A shard that has heard repeats what must not
//! be lost; where the run ends before it has done so, the run does not count as a whole one.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::{error, info, warn};

use super::OpenError;
use super::bundles::Bundles;
use super::codec::{COUNTS_KEY, Change, Codec, Counts};
use super::directory::{Directory, LastRun};
use super::engine::{self, Engine, Reach};
use super::intake::{Found, Intake};
use super::load::{Loaded, load};
use super::renewal::Renewal;
use super::syncer::Syncer;
use crate::base::ids::ShardId;
use crate::base::limits::{COMMIT_BYTES, STORE_SYNC_BYTES, STORE_SYNC_PERIOD_MS};
use crate::chat::record::{Durability, Record, Recovered, StoreNumbers, Ticket};

/// A watermark that found a mailbox full is posted again after this long.
const POST_AGAIN: Duration = Duration::from_millis(1);
/// First and longest time before an engine that failed is opened anew.
const REOPEN_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Records of one turn of one shard.
#[derive(Debug)]
pub struct Submission {
    /// The shard.
    pub shard: ShardId,
    /// The failures that the shard has heard of.
    pub generation: u32,
    /// The number of the first record; the others follow.
    pub first: Ticket,
    /// The records; never none.
    pub records: Vec<Record>,
}

/// Asks for what is kept of one shard.
pub struct Reload {
    /// The shard, which has begun anew and has no memory.
    pub shard: ShardId,
    /// The home of what has a name.
    pub home: Box<dyn Fn(&str) -> ShardId + Send>,
    /// Where it is told.
    pub tell: Sender<io::Result<Recovered>>,
}

/// What lies in the store's channel.
pub enum Errand {
    /// Records to be written.
    Write(Submission),
    /// A shard wants to know what is kept of it, once all is written that came before this.
    Reload(Reload),
    /// A drill, of which a shipped server knows nothing.
    #[cfg(debug_assertions)]
    Panic,
}

/// What became of a shard's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All up to this one are written.
    Written(Ticket),
    /// None is or will be that was handed over since the last watermark.
    Failed,
}

/// Takes an outcome to a shard. False where its mailbox is full.
pub type Post = Box<dyn FnMut(ShardId, Outcome, StoreNumbers) -> bool>;
/// Opens the engine.
pub type Opener = Box<dyn FnMut() -> io::Result<Box<dyn Engine>>>;

/// What is known of one shard.
#[derive(Debug, Default)]
struct Desk {
    generation: u32,
    /// Its last record in the group.
    through: Option<Ticket>,
    /// Records of it were lost, and it has handed nothing over since it heard of that.
    lost_records: bool,
    /// Not told yet: at most a watermark and a failure.
    owed: VecDeque<Outcome>,
}

impl Desk {
    /// Its records that are not written are lost, and it is to hear of that.
    fn fail(&mut self) {
        self.through = None;
        self.generation += 1;
        self.lost_records = true;
        self.owe(Outcome::Failed);
    }

    fn owe(&mut self, outcome: Outcome) {
        debug_assert_ne!(
            self.owed.back(),
            Some(&Outcome::Failed),
            "a shard's records are dropped until it has heard that others are lost"
        );
        if let (Some(Outcome::Written(last)), Outcome::Written(through)) =
            (self.owed.back_mut(), outcome)
        {
            *last = through;
        } else {
            self.owed.push_back(outcome);
        }
    }
}

/// The store at its work. See the [module](self).
pub struct Keeper {
    directory: Directory,
    durability: Durability,
    opener: Opener,
    engine: Option<Box<dyn Engine>>,
    reopen_after: Duration,
    submissions: Intake<Errand>,
    /// Taken, and not in a group yet.
    taken: VecDeque<Errand>,
    post: Post,
    desks: Vec<Desk>,
    codec: Codec,
    group_bytes: usize,
    group_records: u64,
    counts: Counts,
    numbers: StoreNumbers,
    /// Until this is over, the mark of the last run says that something may be missing.
    renewal: Renewal,
    /// Waits for the disk, where answers do not.
    syncer: Option<Syncer>,
    /// When the disk is to be waited for, since something was committed.
    sync_at: Option<Instant>,
    /// Bytes committed since.
    unsynced_bytes: usize,
}

/// How a store is to be kept.
pub struct KeeperConfig {
    /// How far a commit goes before its requests are answered.
    pub durability: Durability,
    /// How many shards hand records over.
    pub shards: u16,
    /// What they hand over.
    pub submissions: Intake<Errand>,
    /// Takes outcomes to them.
    pub post: Post,
}

impl Keeper {
    /// Opens the store in `data` and reads all of it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(data: &Path, config: KeeperConfig) -> Result<(Keeper, Loaded), OpenError> {
        if cfg!(not(feature = "store")) {
            return Err(OpenError::NotBuilt);
        }
        let directory = Directory::take(data)?;
        let path = directory.engine();
        Keeper::begin(directory, config, Box::new(move || open(&path)))
    }

    fn begin(
        directory: Directory,
        config: KeeperConfig,
        mut opener: Opener,
    ) -> Result<(Keeper, Loaded), OpenError> {
        let data = || directory.data().to_path_buf();
        let damage = |cause: io::Error| match cause.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                OpenError::Corrupt { data: data(), what: cause.to_string() }
            }
            io::ErrorKind::ResourceBusy => OpenError::Locked { data: data() },
            _ => OpenError::System { data: data(), what: "read the store", cause },
        };
        let mut engine = opener().map_err(damage)?;
        let mut loaded = load(&mut *engine).map_err(damage)?;
        if let LastRun::Clean { commits } = *directory.last_run()
            && commits != loaded.counts.commits
        {
            let what = format!("it ends with commit {} of {commits}", loaded.counts.commits);
            return Err(OpenError::Corrupt { data: data(), what });
        }
        loaded.renew_epochs = *directory.last_run() == LastRun::Torn;
        let rooms = loaded.rooms.iter().filter(|_| loaded.renew_epochs);
        let renewal = Renewal::of(rooms.map(|room| room.name.clone()));
        let marked = match renewal.is_over() {
            true => directory.mark_running(config.durability),
            false => directory.mark_torn(config.durability),
        };
        marked.map_err(|cause| OpenError::System { data: data(), what: "mark the run", cause })?;
        let data = data();
        let mut keeper = Keeper {
            directory,
            durability: config.durability,
            opener,
            engine: None,
            reopen_after: REOPEN_AFTER.0,
            submissions: config.submissions,
            taken: VecDeque::new(),
            post: config.post,
            desks: (0..config.shards).map(|_| Desk::default()).collect(),
            codec: Codec::default(),
            group_bytes: 0,
            group_records: 0,
            counts: loaded.counts,
            numbers: StoreNumbers::default(),
            renewal,
            syncer: None,
            sync_at: None,
            unsynced_bytes: 0,
        };
        let used = keeper.use_engine(engine);
        used.map_err(|cause| OpenError::System { data, what: "start a thread", cause })?;
        Ok((keeper, loaded))
    }

    /// Works until all shards have hung up, and then writes what is left. Returns whether all is
    /// written.
    pub fn run(mut self) -> bool {
        loop {
            self.post_owed();
            if self.engine.is_none() {
                if !self.reopen() {
                    self.finish_torn();
                    return false;
                }
                continue;
            }
            match self.take_submissions() {
                Found::Some => {
                    let reload = self.gather_group();
                    self.commit();
                    if let Some(reload) = reload {
                        self.reload(&reload);
                    }
                }
                Found::Nothing => {}
                Found::End => return self.finish(),
            }
            self.sync_if_due();
        }
    }

    /// Makes a group of what was taken, as far as it may grow, or up to a question, which it
    /// returns.
    fn gather_group(&mut self) -> Option<Reload> {
        while self.group_bytes < COMMIT_BYTES
            && let Some(errand) = self.taken.pop_front()
        {
            match errand {
                Errand::Write(submission) => self.gather(submission),
                Errand::Reload(reload) => return Some(reload),
                #[cfg(debug_assertions)]
                Errand::Panic => panic!("an operator wants to see it"),
            }
        }
        None
    }

    /// Tells a shard that has begun anew what is kept of it. It numbers its records from the
    /// beginning, and has heard of no failure.
    fn reload(&mut self, Reload { shard, home, tell }: &Reload) {
        self.desks[shard.index()] = Desk::default();
        let shards = u16::try_from(self.desks.len()).expect("shards are counted by 16 bits");
        let loaded = match &mut self.engine {
            Some(engine) => load(&mut **engine),
            None => Err(io::Error::other("the storage fails")),
        };
        let part = loaded.map(|mut loaded| {
            // What was told ahead of its record may be lost with the one that told it, and so may
            // the news that rooms begin other epochs.
            loaded.renew_epochs = self.durability == Durability::None || !self.renewal.is_over();
            let parts = loaded.divide(shards, |name| home(name));
            parts.into_iter().nth(shard.index()).expect("a part for each shard")
        });
        // Whoever hung up wants to know no more.
        let _ = tell.send(part);
    }

    /// Takes what is there, if nothing is left of what was taken before.
    fn take_submissions(&mut self) -> Found {
        if !self.taken.is_empty() {
            return Found::Some;
        }
        let owing = self.desks.iter().any(|desk| !desk.owed.is_empty());
        let post_at = owing.then(|| Instant::now() + POST_AGAIN);
        let deadline = [post_at, self.sync_at].into_iter().flatten().min();
        self.submissions.take(&mut self.taken, deadline)
    }

    fn use_engine(&mut self, engine: Box<dyn Engine>) -> io::Result<()> {
        if self.durability != Durability::Sync {
            self.syncer = Some(Syncer::start(engine.syncing())?);
        }
        self.engine = Some(engine);
        Ok(())
    }

    /// Adds a shard's records to the group, unless it is yet to hear that they are lost.
    fn gather(&mut self, submission: Submission) {
        let desk = &mut self.desks[submission.shard.index()];
        if submission.generation != desk.generation {
            return;
        }
        desk.lost_records = false;
        let engine = self.engine.as_mut().expect("it is open while groups are gathered");
        desk.through = Some(Ticket(submission.first.0 + submission.records.len() as u64 - 1));
        self.group_records += submission.records.len() as u64;
        for record in submission.records {
            self.group_bytes += record.bytes();
            self.renewal.note_staged(&record);
            if let Record::Direct { direct, .. } = &record {
                self.counts.next_direct = self.counts.next_direct.max(direct.id() + 1);
            }
            // The record ends here: the shard reuses its batch when it hears that it is written.
            engine.stage(self.codec.change(&record));
        }
    }

    fn commit(&mut self) {
        if self.group_records == 0 {
            return;
        }
        let counts = Counts { commits: self.counts.commits + 1, ..self.counts };
        let reach = match self.durability {
            Durability::Sync => Reach::Disk,
            Durability::Batch | Durability::None => Reach::System,
        };
        let began = Instant::now();
        let engine = self.engine.as_mut().expect("it is open while groups are taken");
        engine.stage(Change::Put { key: &COUNTS_KEY, value: &counts.encode() });
        let outcome = match self.syncer.as_ref().and_then(Syncer::failure) {
            None => engine.commit(reach),
            Some(cause) => Err(cause),
        };
        let took_us = began.elapsed().as_micros() as u64;
        match outcome {
            Ok(()) => {
                self.counts = counts;
                self.count(took_us);
                if self.renewal.note_written() {
                    self.trust();
                }
                self.reopen_after = REOPEN_AFTER.0;
                if reach == Reach::System {
                    self.unsynced_bytes += self.group_bytes;
                    let period = Duration::from_millis(STORE_SYNC_PERIOD_MS);
                    self.sync_at.get_or_insert_with(|| Instant::now() + period);
                }
                for desk in &mut self.desks {
                    if let Some(through) = desk.through.take() {
                        desk.owe(Outcome::Written(through));
                    }
                }
            }
            Err(cause) => self.fail(&cause),
        }
        (self.group_bytes, self.group_records) = (0, 0);
    }

    /// All rooms have begun other epochs: what is found from here on may be trusted.
    fn trust(&self) {
        if let Err(cause) = self.directory.mark_running(self.durability) {
            let data = self.directory.data().display();
            warn!("cannot mark in {data} that nothing is missing any more: {cause}");
        }
    }

    fn count(&mut self, took_us: u64) {
        let numbers = &mut self.numbers;
        numbers.commits += 1;
        numbers.records += self.group_records;
        numbers.bytes += self.group_bytes as u64;
        numbers.syncs += u64::from(self.durability == Durability::Sync);
        numbers.commit_us += took_us;
        numbers.longest_commit_us = numbers.longest_commit_us.max(took_us);
    }

    /// The group is lost, and whatever its shards have handed over behind it.
    fn fail(&mut self, cause: &io::Error) {
        self.renewal.note_failed();
        self.numbers.failed_commits += 1;
        if self.reopen_after == REOPEN_AFTER.0 {
            let data = self.directory.data().display();
            error!("cannot write to {data}: {cause}; what must be stored is refused until it can");
        }
        for desk in &mut self.desks {
            if desk.through.is_some() {
                desk.fail();
            }
        }
        self.close_engine();
    }

    fn close_engine(&mut self) {
        self.syncer = None;
        self.engine = None;
        self.sync_at = None;
        self.unsynced_bytes = 0;
    }

    /// Waits a moment and opens the engine anew. False when the shards have hung up meanwhile.
    fn reopen(&mut self) -> bool {
        let until = Instant::now() + self.reopen_after;
        self.reopen_after = (2 * self.reopen_after).min(REOPEN_AFTER.1);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::sleep(left.min(POST_AGAIN));
            self.post_owed();
        }
        match (self.opener)().and_then(|engine| self.use_engine(engine)) {
            Ok(()) => true,
            Err(cause) => {
                warn!("cannot open {} again: {cause}", self.directory.data().display());
                self.refuse_waiting()
            }
        }
    }

    /// Fails what waits, so that nobody is left without an answer. False when all have hung up.
    fn refuse_waiting(&mut self) -> bool {
        let now = Instant::now();
        loop {
            while let Some(errand) = self.taken.pop_front() {
                let Submission { shard, generation, .. } = match errand {
                    Errand::Write(submission) => submission,
                    Errand::Reload(reload) => {
                        self.reload(&reload);
                        continue;
                    }
                    #[cfg(debug_assertions)]
                    Errand::Panic => panic!("an operator wants to see it"),
                };
                let desk = &mut self.desks[shard.index()];
                if generation == desk.generation {
                    desk.fail();
                }
            }
            match self.submissions.take(&mut self.taken, Some(now)) {
                Found::Some => {}
                Found::Nothing => return true,
                Found::End => return false,
            }
        }
    }

    /// Has the disk waited for after a time and after many bytes, so that little is left to wait
    /// for when the engine does it, and keeps commits out.
    fn sync_if_due(&mut self) {
        let Some(due) = self.sync_at else { return };
        if self.unsynced_bytes < STORE_SYNC_BYTES && Instant::now() < due {
            return;
        }
        self.sync_at = None;
        self.unsynced_bytes = 0;
        if let Some(syncer) = &self.syncer {
            self.numbers.syncs += 1;
            syncer.request();
        }
    }

    /// Tells shards what they have not been told.
    fn post_owed(&mut self) {
        for (desk, shard) in self.desks.iter_mut().zip(0..) {
            while let Some(&outcome) = desk.owed.front() {
                if !(self.post)(ShardId(shard), outcome, self.numbers) {
                    break;
                }
                desk.owed.pop_front();
            }
        }
    }

    /// All shards have hung up, and all that they handed over is committed.
    fn finish(mut self) -> bool {
        // Its end may bring a failure, and the engine's own wait would not tell of it again.
        let failure = self.syncer.take().and_then(Syncer::end);
        let synced = self.engine.as_mut().is_some_and(|engine| engine.sync().is_ok());
        let synced = synced && failure.is_none();
        self.close_engine();
        let repeated = !self.desks.iter().any(|desk| desk.lost_records);
        let whole = synced && repeated && self.renewal.is_over();
        let commits = self.counts.commits;
        let clean = whole && self.directory.mark_clean(self.durability, commits).is_ok();
        if clean {
            let StoreNumbers { records, commits, .. } = self.numbers;
            let data = self.directory.data().display();
            info!("all is stored in {data}: {records} records in {commits} commits");
        } else {
            self.finish_torn();
        }
        clean
    }

    /// Records may be lost, and nobody is there to repeat them. The next run begins other epochs,
    /// because places of the old ones may have been given to what is lost.
    fn finish_torn(&self) {
        let data = self.directory.data().display();
        error!("the last records may be missing in {data}");
        if let Err(cause) = self.directory.mark_torn(self.durability) {
            warn!("cannot mark in {data} that records may be missing: {cause}");
        }
    }
}

/// Opens the engine, with what changes together bound together.
fn open(path: &Path) -> io::Result<Box<dyn Engine>> {
    Ok(Box::new(Bundles::open(engine::open(path)?)?))
}

#[cfg(all(test, feature = "store"))]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::path::PathBuf;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::base::ids::{Epoch, Seq};
    use crate::base::name::Name;
    use crate::chat::record::RecordId;
    use crate::store::engine::Syncing;
    use crate::store::intake::{Submitter, bounded};

    /// What the shard has of the store; `None` once it has hung up.
    type Shard = Rc<RefCell<Option<Submitter<Errand>>>>;

    /// An engine that keeps nothing but what it was made with, and on whose commits a script
    /// decides.
    struct Scripted {
        script: Rc<RefCell<dyn FnMut() -> bool>>,
        stored: Vec<(Vec<u8>, Vec<u8>)>,
    }

    impl Engine for Scripted {
        fn stage(&mut self, _: Change<'_>) {}

        fn commit(&mut self, _: Reach) -> io::Result<()> {
            match (self.script.borrow_mut())() {
                true => Ok(()),
                false => Err(io::ErrorKind::StorageFull.into()),
            }
        }

        fn syncing(&self) -> Syncing {
            Box::new(|| Ok(()))
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn get(&mut self, _: &[u8]) -> io::Result<Option<Vec<u8>>> {
            Ok(None)
        }

        fn read(&mut self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
            let _ = self.stored.iter().all(|(key, value)| each(key, value));
            Ok(())
        }
    }

    fn submit(shard: &Shard, generation: u32, first: u64) {
        submit_record(shard, generation, first, Record::StrikeHead { room: Name::new("lobby") });
    }

    fn submit_record(shard: &Shard, generation: u32, first: u64, record: Record) {
        let records = vec![record];
        let first = Ticket(first);
        let submission = Submission { shard: ShardId(0), generation, first, records };
        shard
            .borrow()
            .as_ref()
            .expect("it is there")
            .submit(Errand::Write(submission))
            .map_err(drop)
            .expect("there is room");
    }

    /// A run in which a shard hands one record over, and `commits` and `hears` what follows.
    /// Returns what the keeper returns, and how the next run finds the directory.
    fn run(
        commits: impl Fn(&Shard, u32) -> bool + 'static,
        hears: impl Fn(&Shard, Outcome) + 'static,
    ) -> (bool, LastRun) {
        let data = folder();
        let (submitter, submissions) = bounded(8);
        let shard: Shard = Rc::new(RefCell::new(Some(submitter)));
        submit(&shard, 0, 1);
        let (posted, mut count) = (Rc::clone(&shard), 0);
        let script = Rc::new(RefCell::new(move || {
            count += 1;
            commits(&shard, count)
        }));
        let post = Box::new(move |_, outcome, _| {
            hears(&posted, outcome);
            true
        });
        let config = KeeperConfig { durability: Durability::Sync, shards: 1, submissions, post };
        let open = move || -> io::Result<Box<dyn Engine>> {
            Ok(Box::new(Scripted { script: Rc::clone(&script) as _, stored: Vec::new() }))
        };
        let directory = Directory::take(&data).expect("a new directory");
        let (keeper, _) = Keeper::begin(directory, config, Box::new(open)).expect("it opens");
        let whole = keeper.run();
        let last = Directory::take(&data).expect("the keeper let it go").last_run().clone();
        fs::remove_dir_all(data).expect("it was made here");
        (whole, last)
    }

    fn folder() -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("corebeat-keeper-{}-{number}", std::process::id()))
    }

    fn head_of_lobby(epoch: u32) -> Record {
        let (room, id) = (Name::new("lobby"), RecordId(u64::from(epoch)));
        Record::Head { room, id, epoch: Epoch(epoch), seq: Seq(0) }
    }

    /// A keeper of a store in which is a room, that has heard of nothing yet.
    fn keeper_of_lobby(
        data: &Path,
        durability: Durability,
        hears: impl Fn(&Shard, Outcome) + 'static,
    ) -> (Keeper, Loaded, Shard) {
        let (submitter, submissions) = bounded(8);
        let shard: Shard = Rc::new(RefCell::new(Some(submitter)));
        let posted = Rc::clone(&shard);
        let post = Box::new(move |_, outcome, _| {
            hears(&posted, outcome);
            true
        });
        let config = KeeperConfig { durability, shards: 1, submissions, post };
        let open = || -> io::Result<Box<dyn Engine>> {
            let (mut codec, head) = (Codec::default(), head_of_lobby(1));
            let Change::Put { key, value } = codec.change(&head) else {
                unreachable!("a head is put")
            };
            let stored = vec![(key.to_vec(), value.to_vec())];
            Ok(Box::new(Scripted { script: Rc::new(RefCell::new(|| true)), stored }))
        };
        let directory = Directory::take(data).expect("nobody holds it");
        let (keeper, loaded) = Keeper::begin(directory, config, Box::new(open)).expect("it opens");
        (keeper, loaded, shard)
    }

    #[test]
    fn a_run_that_is_torn_stays_torn_until_all_rooms_have_begun_other_epochs() {
        for durability in [Durability::Batch, Durability::Sync] {
            let data = folder();
            let directory = Directory::take(&data).expect("a new directory");
            directory.mark_torn(durability).expect("there is room");
            drop(directory);
            // Killed before anything of it is written.
            let (_, loaded, _) = keeper_of_lobby(&data, durability, |_, _| ());
            assert!(loaded.renew_epochs);
            let run = data.join("run");
            let hears = move |shard: &Shard, outcome| {
                let mark = fs::read_to_string(&run).expect("it is there");
                let is_trusted = mark.ends_with("state=running\n");
                assert_eq!(is_trusted, outcome == Outcome::Written(Ticket(2)), "{mark}");
                match is_trusted {
                    true => drop(shard.borrow_mut().take()),
                    false => submit_record(shard, 0, 2, head_of_lobby(2)),
                }
            };
            let (keeper, loaded, shard) = keeper_of_lobby(&data, durability, hears);
            assert!(loaded.renew_epochs, "nothing was written of the other epoch");
            submit(&shard, 0, 1);
            assert!(keeper.run());
            let last = Directory::take(&data).expect("the keeper let it go").last_run().clone();
            assert_eq!(last, LastRun::Clean { commits: 2 });
            fs::remove_dir_all(data).expect("it was made here");
        }
    }

    fn hangs_up(shard: &Shard, _: Outcome) {
        *shard.borrow_mut() = None;
    }

    #[test]
    fn a_run_that_has_written_all_is_clean() {
        let (whole, last) = run(|_, _| true, hangs_up);
        assert_eq!((whole, last), (true, LastRun::Clean { commits: 1 }));
    }

    #[test]
    fn a_run_whose_last_commit_failed_is_torn() {
        let (whole, last) = run(|_, _| false, hangs_up);
        assert_eq!((whole, last), (false, LastRun::Torn));
    }

    #[test]
    fn a_run_is_torn_whose_last_records_were_from_before_a_failure() {
        let commits = |shard: &Shard, _| {
            submit(shard, 0, 2);
            *shard.borrow_mut() = None;
            false
        };
        assert_eq!(run(commits, |_, _| ()), (false, LastRun::Torn));
    }

    #[test]
    fn a_run_is_clean_whose_shards_have_repeated_what_was_lost() {
        let hears = |shard: &Shard, outcome| match outcome {
            Outcome::Failed => submit(shard, 1, 2),
            Outcome::Written(through) => {
                assert_eq!(through, Ticket(2));
                *shard.borrow_mut() = None;
            }
        };
        let (whole, last) = run(|_, commit| commit > 1, hears);
        assert_eq!((whole, last), (true, LastRun::Clean { commits: 1 }));
    }
}

//! `tokio-tuned`: the gateway as a tokio expert would ship it.
//!
//! A pinned thread per core, each with a runtime of its own, its own listener in the port's
//! `SO_REUSEPORT` group, and one [`Core`] that owns all its connections and rooms, so that nothing
//! is locked. A room has a home core that gives its messages their order; letters between cores
//! travel once a turn. What a turn produced for a connection leaves in one write.
//!
//! Run it with `cargo run --release --example tokio_tuned -- --listen 127.0.0.1:8080`; the options
//! are those of `corebeat serve`.
//!
//! # What was tried, and what each step gained
//! Processor time of the server per delivery, 64-byte bodies to 1,000 members of one room over
//! loopback, 16 in flight, one worker, a receiver that spins; medians of five rounds in which the
//! variants took turns, on a virtual machine of two busy cores, where a tenth is noise.
//!
//! | step | before | after |
//! | --- | --- | --- |
//! | one write per connection and turn, not one per message | 6,630 ns | 420 ns |
//! | a room's messages of one turn are one segment, not one each | 530 ns | 420 ns |
//! | one task for all connections, called by [`bell`]s, not one each: memory | 128 B | 32 B |
//! | the same: to wake and serve, when 256 sockets are ready at once | 45 ns | 15 ns |
//! | one timing wheel, not a `Sleep` for each connection: memory | 96 B | 8 to 17 B |
//! | `poll_read` into the core's scratch, not `try_read`: system calls of an echo | 4 | 3 |
//! | one tungstenite context per core, not one each: memory of a WebSocket | 1.5 KB | 0.6 KB |
//!
//! Without a difference beyond the noise, and kept because they cost nothing: frames shared by `Rc`
//! and not by `Arc` (420 and 460 ns), no table of slices for a single segment, and the first core
//! on the main thread, so that with one worker the process has one thread and the kernel counts no
//! references to its file table (420 ns, and 400 with a second thread). With one message in flight
//! all of these are alike, 6.5 µs: that is the kernel's `send`.
//!
//! The core is a task of a `LocalRuntime`, whose wakers cost no system call: an echo is one
//! `epoll_wait`, one `recv` and one `send`. It runs without tokio's budget, which would end a turn
//! after 128 sockets; letters and newcomers have bounds of their own, and a socket is read for one
//! scratch at most.
//!
//! A `tokio_tungstenite` stream per connection would copy each room message into a buffer of its
//! own. Here tungstenite's header is put before a room message once per core and dialect, and the
//! frames are shared as those of other dialects are. Received frames go through tungstenite's
//! context when they are whole; it keeps nothing between messages, so one serves all connections
//! of the core, and only a message in fragments takes it along until its end. Its read buffer is
//! 512 bytes, because it is filled with zeros before each frame. So an idle WebSocket takes as much
//! as any other connection.
//!
//! An idle, joined connection takes 500 bytes: 256 are tokio's `ScheduledIo`, which is aligned to
//! 128; the connection itself, its stream of 40 bytes included, takes 128, its bell 32, and the
//! rest is its name, its place in its room and its timer. That is 14,000 of them without huge pages
//! (`MIMALLOC_ALLOW_THP=0`, 496 bytes). With them the resident memory grows by 2 MiB at a time, and
//! 300 to 750 bytes a connection were seen, by how full the last pages were.
#![allow(unreachable_pub)]

mod bell;
#[path = "../common/mod.rs"]
mod common;
mod connection;
mod core;
mod delivery;
mod homes;
mod intake;
mod mail;
mod outbox;
mod room;
mod timers;
mod web;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::thread;

use core_affinity::CoreId;
use corebeat::base::ids::ShardId;
use corebeat::base::limits::EVENTS_PER_TURN;
use corebeat::engine::config::ServerConfig;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::unconstrained;

use self::common::service::{self, Service};
use self::core::{Core, Parts};
use self::mail::{Mail, Mailbox, Post};

/// As in corebeat.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    service::main(run)
}

fn run(config: ServerConfig, service: Service, address: SocketAddr) -> io::Result<()> {
    let (mailboxes, posts): (Vec<Mailbox>, Vec<_>) =
        (0..config.workers).map(|_| Mailbox::new()).unzip();
    let cores = if config.pin { core_affinity::get_core_ids().unwrap_or_default() } else { vec![] };
    // Opened here, so that all of them listen before any connection can come.
    let listeners = (0..config.workers).map(|_| service::open(address));
    let listeners: Vec<TcpListener> = listeners.collect::<io::Result<_>>()?;
    let seats: Vec<Seat> = (0..config.workers)
        .zip(posts.into_iter().zip(listeners))
        .map(|(number, (post, listener))| Seat {
            id: ShardId(number),
            core: cores.get(usize::from(number) % cores.len().max(1)).copied(),
            config: config.clone(),
            service: service.clone(),
            listener,
            mailboxes: mailboxes.clone(),
            post,
        })
        .collect();
    let mut seats = seats.into_iter();
    let first = seats.next().expect("there is a worker at least");
    let others: Vec<_> = seats
        .map(|seat| {
            let name = format!("tokio-tuned-{}", seat.id);
            thread::Builder::new().name(name).spawn(move || seat.work())
        })
        .collect::<io::Result<_>>()?;
    // The first worker has no thread of its own: with one worker the process has one thread, and
    // the kernel does not count references to its file table.
    service::announce(address);
    let outcome = first.work();
    for other in others {
        other.join().map_err(|_| io::Error::other("a worker panicked"))??;
    }
    outcome
}

/// What a thread needs to become a core.
struct Seat {
    id: ShardId,
    core: Option<CoreId>,
    config: ServerConfig,
    service: Service,
    listener: TcpListener,
    mailboxes: Vec<Mailbox>,
    post: UnboundedReceiver<Post>,
}

impl Seat {
    fn work(self) -> io::Result<()> {
        if let Some(core) = self.core {
            core_affinity::set_for_current(core);
        }
        let runtime = runtime()?;
        let Seat { id, config, service, listener, mailboxes, post, .. } = self;
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            if id == ShardId(0) {
                tokio::task::spawn_local(stop_at_signal(id, mailboxes.clone()));
            }
            let drain = config.drain.within;
            let core = Core::new(Parts { id, service, listener, mailboxes, post, drain });
            // Its own task, because the reactor wakes a task without a system call; without a
            // budget, because a turn has bounds of its own.
            let ended = tokio::task::spawn_local(unconstrained(core)).await;
            ended.map_err(io::Error::other)
        })
    }
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .max_io_events_per_tick(EVENTS_PER_TURN)
        .build_local(LocalOptions::default())
}

async fn stop_at_signal(id: ShardId, mailboxes: Vec<Mailbox>) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    for mailbox in &mailboxes {
        mailbox.send(Post { from: id, letters: vec![Mail::Stop] });
    }
    Ok(())
}

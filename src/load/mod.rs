//! The load generator, `corebeat bench`: simulated clients in great number, that check all they
//! hear and measure how long it took.
//!
//! # How it measures
//!
//! A [`plan`] is made before the run: who connects from where and when, joins what, sends when. It
//! follows from a seed. Driver threads ([`driver`]) carry it out, each with a poll, a file table
//! and connections of its own. Latency counts from the *planned* instant of a message, so a server
//! that stalls for a second is charged for everything that was due in that second, whether it was
//! sent late or not (an *open* loop; G. Tene's "coordinated omission" is what other loops suffer
//! from). Every body carries who sent it, which it is, when it was due and a checksum, and every
//! delivery is checked against it ([`ledger`], [`peer`]).
//!
//! The [`conductor`] runs the phases (ramp, barrier, warm-up, measured time, drain) and watches the
//! server's process and its own ([`sample`]). Then [`verdict`] decides whether the numbers may be
//! told: not if the generator itself was the bottleneck. [`report`] puts them into a table or
//! JSON, [`page`] into HTML.
//!
//! # Layers
//!
//! `config`, `body`, `plan`, `speech`, `scan`, `websocket`, `peer`, `ledger`, `violation`, `agenda`
//! and `flight` are pure: no socket, clock, thread or random source. Everything else may touch the
//! machine.

pub mod agenda;
pub mod body;
pub mod chart;
pub mod conductor;
pub mod config;
pub mod crew;
pub mod driver;
pub mod figures;
pub mod flight;
pub mod ledger;
pub mod links;
pub mod measure;
pub mod page;
pub mod peer;
pub mod perf_control;
pub mod plan;
pub mod reckoning;
pub mod report;
pub mod run;
pub mod sample;
pub mod scan;
pub mod server;
pub mod shared;
pub mod speech;
pub mod table;
pub mod verdict;
pub mod violation;
pub mod websocket;

//! The heart, rule by rule: one small test for each promise of the wire contract, at the seam of
//! `Shard` and with neither socket nor clock. Every test is exact and the same in every run.

mod heart {
    mod backpressure;
    mod closings;
    mod crashes;
    mod directs;
    mod disk;
    mod ear;
    mod echo;
    mod everyone;
    mod goodbye;
    mod greeting;
    mod heartbeats;
    mod history;
    mod http;
    mod limits;
    mod malformed;
    mod overload;
    mod panics;
    mod patience;
    mod peer;
    mod presence;
    mod pressure;
    mod refs;
    mod rooms;
    mod sessions;
    #[path = "../common/shelf.rs"]
    mod shelf;
    mod slow;
    mod speech;
    mod stats;
    mod tempo;
    mod text;
    mod web;
    mod world;
}

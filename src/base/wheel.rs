//! The hashed timing wheel of one worker.

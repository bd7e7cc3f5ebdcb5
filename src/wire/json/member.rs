//! The members of an object, by name, and how their values are read.
//!
//! Owns which members version 1 knows, and that each stands at most once and holds what it may.
//! What is not known is skipped, however deep.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::wire::message::WireError;

/// Declares the members: the variant, the name, and what it must be.
macro_rules! members {
    ($($variant:ident $name:literal $must:literal),+ $(,)?) => {
        /// A member that version 1 knows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Member {
            $(#[doc = concat!("`", $name, "`: ", $must, ".")] $variant),+
        }

        impl Member {
            /// All of them.
            pub const ALL: &'static [Member] = &[$(Member::$variant),+];

            /// Its name in the object.
            pub fn name(self) -> &'static str {
                match self { $(Member::$variant => $name),+ }
            }

            /// What it must be, in words for whoever sent something else.
            pub fn text(self) -> &'static str {
                match self {
                    $(Member::$variant => concat!("\"", $name, "\" must be ", $must)),+
                }
            }

            fn named(name: &str) -> Option<Member> {
                match name { $($name => Some(Member::$variant),)+ _ => None }
            }
        }
    };
}

members! {
    Op "op" "a string",
    Optional "optional" "true or false",
    Reference "ref" "a number from 0 to 4294967295",
    User "user" "a string",
    Token "token" "a string",
    Session "session" "a string of 1 to 16 hexadecimal digits",
    ResumeKey "resume_key" "a string of 1 to 16 hexadecimal digits",
    HeartbeatS "heartbeat_s" "a number from 0 to 65535",
    TimeoutS "timeout_s" "a number from 0 to 65535",
    Node "node" "a number from 0 to 4294967295",
    MaxFrame "max_frame" "a number from 0 to 4294967295",
    Resumed "resumed" "true or false",
    Room "room" "a string",
    Epoch "epoch" "a number from 0 to 4294967295",
    Since "since" "a number from 0 to 18446744073709551615",
    Notify "notify" "true or false",
    Body "body" "a string, where there is no \"body_b64\"",
    BodyBase64 "body_b64" "a string of Base64, where there is no \"body\"",
    Echo "echo" "true or false",
    Id "id" "a number from 0 to 18446744073709551615",
    Limit "limit" "a number from 0 to 65535",
    Seq "seq" "a number in its range",
    TimeMs "time_ms" "a number from 0 to 18446744073709551615",
    Status "status" "a number from 0 to 255",
    Code "code" "a number from 0 to 65535",
    Reason "reason" "a string",
    Text "text" "a string",
    From "from" "what the event has there",
    To "to" "a number from 0 to 18446744073709551615",
    Kind "kind" "a string",
    Total "total" "a number from 0 to 4294967295",
    Users "users" "an array of at most 1000 strings of at most 255 bytes",
    ReconnectAfterMs "reconnect_after_ms" "a number from 0 to 4294967295",
    Address "address" "a string",
    Gap "gap" "true or false",
    Queued "queued" "true or false",
    Duplicate "duplicate" "true or false",
    Replay "replay" "true or false",
}

//! The members of an object, by name, and how their values are read.
//!
//! Owns which members version 1 knows, and that each stands at most once and holds what it may.
//! What is not known is skipped, however deep.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::base::limits::ROSTER_MAX;
use crate::wire::message::{Names, WireError};

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

/// Base64 whose padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How many members version 1 knows.
const COUNT: usize = Member::ALL.len();

/// What a member holds, as far as it matters here.
#[derive(Clone, Debug, Default)]
enum Value<'a> {
    /// It is not there, or is `null`.
    #[default]
    Absent,
    Flag(bool),
    Number(u64),
    Text(Cow<'a, str>),
    /// An array of strings, encoded as [`Names`].
    Names(Vec<u8>),
    /// What no member may hold.
    Other,
}

/// One object, its members sorted out but not yet understood.
#[derive(Clone, Debug)]
pub struct Object<'a> {
    values: [Value<'a>; COUNT],
    /// What `body_b64` stands for.
    decoded: Option<Vec<u8>>,
}

/// Takes one message apart. Members that are not known are skipped; of the others each may stand
/// once, and one that is `null` is as if it were not there.
///
/// # Errors
/// [`WireError::Utf8`], and [`WireError::Json`] for what is not exactly one object.
pub fn object(message: &[u8]) -> Result<Object<'_>, WireError> {
    let text = simdutf8::basic::from_utf8(message).map_err(|_| WireError::Utf8)?;
    let mut object: Object<'_> = serde_json::from_str(text).map_err(|_| WireError::Json)?;
    if let Value::Text(body) = &object.values[Member::BodyBase64 as usize] {
        object.decoded = BASE64.decode(body.as_bytes()).ok();
    }
    Ok(object)
}

impl<'a> Object<'a> {
    fn value(&self, member: Member) -> &Value<'a> {
        &self.values[member as usize]
    }

    /// The text of a member that must be there.
    pub(super) fn text(&self, member: Member) -> Result<&str, WireError> {
        match self.value(member) {
            Value::Text(text) => Ok(text),
            _ => Err(WireError::Member(member)),
        }
    }

    /// The text of a member that is empty where it is not there.
    pub(super) fn text_or_empty(&self, member: Member) -> Result<&str, WireError> {
        if matches!(self.value(member), Value::Absent) { Ok("") } else { self.text(member) }
    }

    /// The number of a member that must be there.
    pub(super) fn number<N: TryFrom<u64>>(&self, member: Member) -> Result<N, WireError> {
        match self.value(member) {
            Value::Number(number) => N::try_from(*number).map_err(|_| WireError::Member(member)),
            _ => Err(WireError::Member(member)),
        }
    }

    /// The number of a member, or `default` where it is not there.
    pub(super) fn number_or<N: TryFrom<u64>>(
        &self,
        member: Member,
        default: N,
    ) -> Result<N, WireError> {
        if matches!(self.value(member), Value::Absent) { Ok(default) } else { self.number(member) }
    }

    /// Whether a member is `true`.
    pub(super) fn flag(&self, member: Member) -> Result<bool, WireError> {
        match self.value(member) {
            Value::Absent => Ok(false),
            Value::Flag(flag) => Ok(*flag),
            _ => Err(WireError::Member(member)),
        }
    }

    /// An identity of 64 bits, which is written in hexadecimal digits since a number of JavaScript
    /// cannot hold it; 0 where it is not there.
    pub(super) fn identity(&self, member: Member) -> Result<u64, WireError> {
        if matches!(self.value(member), Value::Absent) {
            return Ok(0);
        }
        let digits = self.text(member)?;
        // A sign would be taken by the parser.
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) || digits.len() > 16 {
            return Err(WireError::Member(member));
        }
        u64::from_str_radix(digits, 16).map_err(|_| WireError::Member(member))
    }

    /// What was said: `body`, or what `body_b64` stands for, and exactly one of the two.
    pub(super) fn body(&self) -> Result<&[u8], WireError> {
        match (self.value(Member::Body), self.value(Member::BodyBase64), &self.decoded) {
            (Value::Text(body), Value::Absent, _) => Ok(body.as_bytes()),
            (Value::Absent, Value::Text(_), Some(body)) => Ok(body),
            (Value::Absent, Value::Text(_), None) => Err(WireError::Member(Member::BodyBase64)),
            _ => Err(WireError::Member(Member::Body)),
        }
    }

    /// The names that the object lists.
    pub(super) fn names(&self) -> Result<Names<'_>, WireError> {
        match self.value(Member::Users) {
            Value::Names(encoded) => Ok(Names::new(encoded)),
            _ => Err(WireError::Member(Member::Users)),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Object<'a>, D::Error> {
        input.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut values = [const { Value::Absent }; COUNT];
        let mut met = [false; COUNT];
        while let Some(Key(member)) = map.next_key()? {
            let Some(member) = member else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut met[member as usize], true) {
                return Err(A::Error::duplicate_field(member.name()));
            }
            values[member as usize] = map.next_value()?;
        }
        Ok(Object { values, decoded: None })
    }
}

/// The name of a member, known or not.
struct Key(Option<Member>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Key, D::Error> {
        struct KeyVisitor;

        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
                Ok(Key(Member::named(name)))
            }
        }

        input.deserialize_identifier(KeyVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Value<'a>, D::Error> {
        input.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Absent)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Value<'de>, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value<'de>, E> {
        Ok(Value::Other)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let mut names = Vec::new();
        let mut count = 0;
        while let Some(item) = items.next_element::<Value<'_>>()? {
            match item {
                Value::Text(name) if name.len() <= 255 && count < ROSTER_MAX => {
                    Names::push(&mut names, &name);
                    count += 1;
                }
                _ => {
                    while items.next_element::<IgnoredAny>()?.is_some() {}
                    return Ok(Value::Other);
                }
            }
        }
        Ok(Value::Names(names))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}

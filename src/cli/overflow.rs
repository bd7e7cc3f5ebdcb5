//! The options for members that do not read.
//!
//! Owns which room drops which messages. Called by [`options`](super::options).

use std::sync::Arc;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::base::name;
use crate::chat::overflow::{Overflow, OverflowPolicies};

use super::options::LIMITS;

impl ValueEnum for Overflow {
    fn value_variants<'a>() -> &'a [Overflow] {
        &Overflow::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// What gives way where a member does not read.
#[derive(Args, Clone, Debug)]
pub struct OverflowOptions {
    /// What gives way when --max-outbound is reached: the connection (disconnect), or a room's
    /// messages that wait: the oldest (drop-oldest), the newest (drop-newest), all but the last
    /// (latest-only). What is dropped is named by a GAP
    #[arg(long, value_name = "POLICY", default_value = "disconnect", hide_possible_values = true)]
    #[arg(env = "COREBEAT_OVERFLOW", hide_env = true, help_heading = LIMITS)]
    pub overflow: Overflow,

    /// Another policy for one room, or for all whose names begin alike, as in
    /// `ticker-*=latest-only`. Can be given several times, or with commas
    #[arg(long, value_name = "ROOM=POLICY", value_delimiter = ',')]
    #[arg(env = "COREBEAT_OVERFLOW_ROOM", hide_env = true, help_heading = LIMITS)]
    pub overflow_room: Vec<String>,
}

impl OverflowOptions {
    /// The policies that they ask for.
    ///
    /// # Errors
    /// One line that names the option at fault and the remedy.
    pub fn policies(&self) -> Result<Arc<OverflowPolicies>, String> {
        let mut policies = OverflowPolicies::new(self.overflow);
        for rule in &self.overflow_room {
            let Some((room, overflow)) = rule.rsplit_once('=') else {
                return Err(format!(
                    "--overflow-room {rule} names no policy; write it like lobby=drop-oldest"
                ));
            };
            let Some(overflow) = Overflow::named(overflow) else {
                let names = Overflow::ALL.map(Overflow::name).join(", ");
                return Err(format!(
                    "--overflow-room {rule}: {overflow} is no policy; choose one of {names}"
                ));
            };
            check_room(rule, room, overflow)?;
            if !policies.set(room, overflow) {
                return Err(format!(
                    "--overflow-room {rule}: {room} was named before; once is enough"
                ));
            }
        }
        Ok(Arc::new(policies))
    }
}

fn check_room(rule: &str, room: &str, overflow: Overflow) -> Result<(), String> {
    if room == "*" {
        let name = overflow.name();
        return Err(format!("--overflow-room {rule} is every room; say --overflow {name}"));
    }
    name::check(room.strip_suffix('*').unwrap_or(room)).map_err(|error| {
        format!("--overflow-room {rule}: the room name {}; try another", error.text())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(overflow: Overflow, rules: &[&str]) -> Result<Arc<OverflowPolicies>, String> {
        let overflow_room = rules.iter().map(|rule| (*rule).to_owned()).collect();
        OverflowOptions { overflow, overflow_room }.policies()
    }

    #[test]
    fn rooms_get_the_policies_that_are_asked_for() {
        let rules = ["ticker-*=latest-only", "a=b=disconnect"];
        let policies = policies(Overflow::DropOldest, &rules).unwrap();
        assert_eq!(policies.of("lobby"), Overflow::DropOldest);
        assert_eq!(policies.of("ticker-gold"), Overflow::LatestOnly);
        assert_eq!(policies.of("a=b"), Overflow::Disconnect);
    }

    #[test]
    fn what_is_no_rule_is_refused_in_one_line_with_the_remedy() {
        for (rules, words) in [
            (&["lobby"][..], "write it like lobby=drop-oldest"),
            (&["lobby=drop"], "choose one of disconnect, drop-oldest, drop-newest, latest-only"),
            (&["*=drop-oldest"], "say --overflow drop-oldest"),
            (&["=drop-oldest"], "the room name is empty"),
            (&["a=disconnect", "a=drop-newest"], "a was named before"),
        ] {
            let refusal = policies(Overflow::Disconnect, rules).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
            assert_eq!(refusal.lines().count(), 1);
        }
    }
}

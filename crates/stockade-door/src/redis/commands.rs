//! Which commands a guest may use.

use std::collections::BTreeSet;

/// Commands that are refused unless the grant allows them: what concerns the server and its other users, what takes
/// the server long, what reads data of other databases or formats of files, and what runs programs.
const REFUSED: &[&str] = &[
    "ACL",
    "BGREWRITEAOF",
    "BGSAVE",
    "CLUSTER",
    "CONFIG",
    "COPY",
    "DEBUG",
    "EVAL",
    "EVALSHA",
    "EVALSHA_RO",
    "EVAL_RO",
    "FAILOVER",
    "FCALL",
    "FCALL_RO",
    "FLUSHALL",
    "FUNCTION",
    "KEYS",
    "LATENCY",
    "MEMORY",
    "MIGRATE",
    "MODULE",
    "MOVE",
    "RESTORE",
    "ROLE",
    "SAVE",
    "SCRIPT",
    "SHUTDOWN",
    "SLOWLOG",
    "SORT",
    "SWAPDB",
];

/// Commands that no grant can allow: what follows them is not a reply to a command, or the session would belong to
/// another user.
const NEVER: &[&str] = &[
    "ASKING",
    "MONITOR",
    "PSYNC",
    "REPLCONF",
    "REPLICAOF",
    "RESET",
    "SLAVEOF",
    "SYNC",
];

/// Commands that may wait for as long as they like.
const BLOCKING: &[&str] = &[
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "WAIT",
    "WAITAOF",
    "XREAD",
    "XREADGROUP",
];

/// Parts of `CLIENT` that concern the guest's own connection, and leave its replies as they are.
const OF_CLIENT: &[&str] = &[
    "CACHING",
    "GETNAME",
    "ID",
    "SETINFO",
    "SETNAME",
    "TRACKINGINFO",
];

/// The commands of a grant.
#[derive(Debug, Clone)]
pub struct Commands {
    refused: BTreeSet<String>,
}

/// Kinds of subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Channel,
    Pattern,
    Shard,
}

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Pass,
    Blocking,
    Refuse,
    Subscribe,
    Unsubscribe(Kind),
    /// It begins a transaction, or ends one.
    Transaction {
        begins: bool,
    },
    /// It needs to be read completely.
    Special(Special),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Auth,
    Hello,
    Client,
    Select,
    Info,
    Quit,
}

impl Commands {
    /// The default, with more commands `refuse`d, and others `allow`ed. Names may have any case.
    #[must_use]
    pub fn new(refuse: &[String], allow: &[String]) -> Self {
        let mut refused: BTreeSet<String> = REFUSED.iter().map(|name| (*name).to_owned()).collect();
        for name in allow {
            refused.remove(&name.to_ascii_uppercase());
        }
        refused.extend(refuse.iter().map(|name| name.to_ascii_uppercase()));
        refused.extend(NEVER.iter().map(|name| (*name).to_owned()));
        Self { refused }
    }

    /// What becomes of the command of a name, in upper case.
    pub(crate) fn rule(&self, name: &str) -> Rule {
        if self.refused.contains(name) {
            return Rule::Refuse;
        }
        match name {
            "AUTH" => Rule::Special(Special::Auth),
            "HELLO" => Rule::Special(Special::Hello),
            "CLIENT" => Rule::Special(Special::Client),
            "SELECT" => Rule::Special(Special::Select),
            "INFO" => Rule::Special(Special::Info),
            "QUIT" => Rule::Special(Special::Quit),
            "SUBSCRIBE" | "PSUBSCRIBE" | "SSUBSCRIBE" => Rule::Subscribe,
            "UNSUBSCRIBE" => Rule::Unsubscribe(Kind::Channel),
            "PUNSUBSCRIBE" => Rule::Unsubscribe(Kind::Pattern),
            "SUNSUBSCRIBE" => Rule::Unsubscribe(Kind::Shard),
            "MULTI" => Rule::Transaction { begins: true },
            "EXEC" | "DISCARD" => Rule::Transaction { begins: false },
            _ if BLOCKING.contains(&name) => Rule::Blocking,
            _ => Rule::Pass,
        }
    }
}

/// Whether a guest may use a part of `CLIENT`, in upper case.
pub(crate) fn is_of_client(part: &str) -> bool {
    OF_CLIENT.contains(&part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_refused_by_default_by_the_grant_and_always() {
        let commands = Commands::new(&[], &[]);
        for name in ["KEYS", "EVAL", "CONFIG", "MONITOR", "RESET"] {
            assert_eq!(commands.rule(name), Rule::Refuse, "{name}");
        }
        for name in ["GET", "SCAN", "JSON.GET"] {
            assert_eq!(commands.rule(name), Rule::Pass, "{name}");
        }
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let commands = Commands::new(&owned(&["get"]), &owned(&["eval", "monitor"]));
        assert_eq!(commands.rule("GET"), Rule::Refuse);
        assert_eq!(commands.rule("EVAL"), Rule::Pass);
        assert_eq!(commands.rule("MONITOR"), Rule::Refuse);
    }

    #[test]
    fn names_are_in_order() {
        for names in [REFUSED, NEVER, BLOCKING, OF_CLIENT] {
            assert!(names.is_sorted(), "{names:?}");
        }
    }
}

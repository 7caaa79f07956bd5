//! Which lines are logged: a level for each room of the program, as `info,data=debug,dns=warn` writes them.

use std::fmt;
use std::str::FromStr;

/// What is logged where nothing is said: what an operator acts on or counts.
pub const DEFAULT_LOG_LEVEL: LogLevel = LogLevel::Info;

/// The rooms that log under their own name: `plgw::data` is `data` here. In order, as they are shown.
pub const LOG_ROOMS: [&str; 14] = [
    "api",
    "app",
    "appservices",
    "cli",
    "config",
    "control",
    "data",
    "dns",
    "lab",
    "lifecycle",
    "plan",
    "quickstart",
    "standin",
    "telemetry",
];

/// Lines that are records, whichever room writes them: one a flow or a request, and one a call of the admin API.
pub const LOG_RECORDS: [&str; 2] = ["access", "admin"];

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What the gateway cannot cope with.
    Error,
    /// What it copes with.
    Warn,
    /// What an operator acts on or counts.
    Info,
    /// Each step.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Its one lower-case name.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| text.eq_ignore_ascii_case(level.label()))
    }
}

/// Levels, one for everything and others for rooms, records or libraries.
///
/// `info,data=debug` is everything at `info` and the room `data` at `debug`; without a level for everything that is `info`.
/// A room by itself (`dns`) means all of its lines. `plgw::dns::udp` names a part of a room, `hyper` a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevels {
    everything: LogLevel,
    /// In the order in which they were written: (name as written, level).
    named: Vec<(String, LogLevel)>,
}

/// Why a text says no levels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseLogLevelsError {
    /// A level that there is not.
    #[error("`{0}` is no log level; write off, error, warn, info, debug or trace")]
    Level(String),
    /// A name with characters that no room or library has.
    #[error("`{0}` is no name of a room; write `data=debug` or `info,data=debug,dns=warn`")]
    Name(String),
    /// A room that there is not.
    #[error("there is no room `{0}`; there are {rooms}", rooms = rooms())]
    Room(String),
    /// A level for everything, twice.
    #[error("`{0}` and `{1}` are both for everything; keep one")]
    Twice(String, String),
}

fn rooms() -> String {
    let all: Vec<&str> = LOG_ROOMS.iter().chain(&LOG_RECORDS).copied().collect();
    all.join(", ")
}

impl LogLevels {
    /// Reads `text`; names that are neither rooms nor paths (`plgw::dns::udp`) are taken for libraries, as `RUST_LOG`
    /// does, which other programs read too.
    ///
    /// # Errors
    ///
    /// [`ParseLogLevelsError`].
    pub fn parse_any(text: &str) -> Result<Self, ParseLogLevelsError> {
        let mut everything: Option<(LogLevel, &str)> = None;
        let mut named = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, level) = match part.split_once('=') {
                Some((name, level)) => {
                    let level = level.trim();
                    let known = LogLevel::parse(level);
                    (name.trim(), known.ok_or_else(|| ParseLogLevelsError::Level(level.to_owned()))?)
                }
                None => match LogLevel::parse(part) {
                    Some(level) => {
                        if let Some((_, first)) = everything.replace((level, part)) {
                            return Err(ParseLogLevelsError::Twice(first.to_owned(), part.to_owned()));
                        }
                        continue;
                    }
                    None => (part, LogLevel::Trace),
                },
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(ParseLogLevelsError::Name(name.to_owned()));
            }
            named.push((name.to_owned(), level));
        }
        Ok(Self { everything: everything.map_or(DEFAULT_LOG_LEVEL, |(level, _)| level), named })
    }

    /// What the log's filter is told: rooms by their paths.
    #[must_use]
    pub fn to_filter(&self) -> String {
        let named = self.named.iter().map(|(name, level)| format!(",{}={}", path(name), level.label()));
        std::iter::once(self.everything.label().to_owned()).chain(named).collect()
    }

    /// The level of a room or of a kind of record.
    #[must_use]
    pub fn of(&self, room: &str) -> LogLevel {
        let target = path(room);
        let matching = self.named.iter().filter(|(name, _)| target.starts_with(&path(name)));
        // Of two that name the same the later one holds, as in the filter.
        matching.max_by_key(|(name, _)| path(name).len()).map_or(self.everything, |(_, level)| *level)
    }
}

impl FromStr for LogLevels {
    type Err = ParseLogLevelsError;

    /// Reads `text`; a name that is no room and no path is refused, because it would silently do nothing.
    fn from_str(text: &str) -> Result<Self, ParseLogLevelsError> {
        let levels = Self::parse_any(text)?;
        let is_known = |name: &str| {
            name == "plgw" || name.contains("::") || LOG_ROOMS.contains(&name) || LOG_RECORDS.contains(&name)
        };
        match levels.named.iter().find(|(name, _)| !is_known(name)) {
            Some((name, _)) => Err(ParseLogLevelsError::Room(name.clone())),
            None => Ok(levels),
        }
    }
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.everything.label())?;
        self.named.iter().try_for_each(|(name, level)| write!(f, ",{name}={}", level.label()))
    }
}

impl Default for LogLevels {
    fn default() -> Self {
        Self { everything: DEFAULT_LOG_LEVEL, named: Vec::new() }
    }
}

/// The path under which a room logs. Paths match by how they begin, so `app` must not begin `appservices`.
fn path(name: &str) -> String {
    match name {
        "app" => "plgw::app::".to_owned(),
        room if LOG_ROOMS.contains(&room) => format!("plgw::{room}"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> LogLevels {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_room_has_its_own_level_and_the_others_that_of_everything() {
        let levels = parsed("data=debug,dns=info");
        assert_eq!(levels.to_string(), "info,data=debug,dns=info");
        assert_eq!(levels.to_filter(), "info,plgw::data=debug,plgw::dns=info");
        assert_eq!((levels.of("data"), levels.of("api")), (LogLevel::Debug, LogLevel::Info));
        let levels = parsed(" WARN , access=off, plgw=error, control ");
        assert_eq!(levels.to_filter(), "warn,access=off,plgw=error,plgw::control=trace");
        assert_eq!((levels.of("access"), levels.of("admin")), (LogLevel::Off, LogLevel::Warn));
        assert_eq!((levels.of("data"), levels.of("control")), (LogLevel::Error, LogLevel::Trace));
    }

    #[test]
    fn the_room_app_is_not_app_services() {
        let levels = parsed("app=debug");
        assert_eq!((levels.of("app"), levels.of("appservices")), (LogLevel::Debug, LogLevel::Info));
    }

    #[test]
    fn what_is_written_comes_back() {
        for text in ["info", "off,dns=trace", "warn,plgw::dns::udp=debug,access=info"] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed(""), LogLevels::default());
    }

    #[test]
    fn what_says_nothing_is_refused_by_what_was_written() {
        let said = |text: &str| text.parse::<LogLevels>().expect_err(text).to_string();
        assert_eq!(said("data=loud"), "`loud` is no log level; write off, error, warn, info, debug or trace");
        assert!(said("dats=debug").starts_with("there is no room `dats`; there are api, app,"));
        assert_eq!(said("info,warn"), "`info` and `warn` are both for everything; keep one");
        assert!(said("=debug").contains("is no name of a room"));
        assert!(said("[span]=debug").contains("is no name of a room"));
        assert!(LogLevels::parse_any("hyper=debug").is_ok(), "`RUST_LOG` is other programs' too");
    }
}

//! Log levels by module: `info,data=debug,dns=warn`.
//!
//! The directives are those of `tracing_subscriber`'s filters. Its parser is not used: it accepts a module only by its
//! full path (`plgw::data`), silently accepts unknown modules, and its errors do not name the problem.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::ParseTextError;

/// The modules that log, by their short name: `plgw::data` is `data` here. In the order in which they are shown.
pub const LOG_MODULES: [&str; 13] = [
    "api",
    "app",
    "appservices",
    "cli",
    "control",
    "data",
    "dns",
    "flowlog",
    "http",
    "lab",
    "lifecycle",
    "standin",
    "telemetry",
];

/// Targets of record lines, whichever module writes them: one line per flow or request, and one per call of the admin
/// API.
pub const LOG_RECORDS: [&str; 2] = ["access", "admin"];

/// The target of messages about the log itself, which are written at any level.
pub const LOG_ITSELF: &str = "logs";

/// Directives: `info` is the default level, `data=debug` the level of a module, a record or a library.
///
/// A module alone (`dns`) means all of its lines. `plgw::dns::udp` is a part of a module, `hyper` a library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLevels {
    default: Option<LevelFilter>,
    /// Names as written.
    named: BTreeMap<String, LevelFilter>,
}

/// Every name that can have its own level.
fn names() -> impl Iterator<Item = &'static str> {
    LOG_MODULES.into_iter().chain(LOG_RECORDS)
}

impl LogLevels {
    /// `info` for everything.
    #[must_use]
    pub fn standard() -> Self {
        Self { default: Some(LevelFilter::INFO), named: BTreeMap::new() }
    }

    /// Parses `text`; names that are neither modules nor paths (`plgw::dns::udp`) are treated as libraries, as other
    /// programs read `RUST_LOG` too.
    ///
    /// # Errors
    ///
    /// [`ParseTextError`].
    pub fn parse_any(text: &str) -> Result<Self, ParseTextError> {
        let mut levels = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, level) = match part.split_once('=') {
                Some((name, level)) => {
                    let level = level.trim();
                    let unknown = || format!("`{level}` is no log level; write off, error, warn, info, debug or trace");
                    (name.trim(), parse_level(level).ok_or_else(|| ParseTextError::new(unknown()))?)
                }
                None => match parse_level(part) {
                    Some(level) => {
                        if let Some(first) = levels.default.replace(level) {
                            let reason = format!("`{first}` and `{level}` are both the default level; keep one");
                            return Err(ParseTextError::new(reason));
                        }
                        continue;
                    }
                    None => (part, LevelFilter::TRACE),
                },
            };
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
            if name.is_empty() || !name.chars().all(is_name) {
                let reason = format!("`{name}` is no module's name; write `data=debug` or `info,data=debug,dns=warn`");
                return Err(ParseTextError::new(reason));
            }
            levels.named.insert(name.to_owned(), level);
        }
        Ok(levels)
    }

    /// Merges `change` into these levels; others are unchanged.
    #[must_use]
    pub fn merged_with(mut self, change: &Self) -> Self {
        self.default = change.default.or(self.default);
        self.named.extend(change.named.clone());
        self
    }

    /// The filter for these levels. Every module has an entry: a filter's target matches all targets with that prefix,
    /// and `app` must not match `appservices`.
    #[must_use]
    pub fn filter(&self) -> Targets {
        let libraries = self.named.iter().filter(|(name, _)| !names().any(|known| known == *name));
        Targets::new()
            .with_default(self.default_level())
            // At `info` it logs every answer, as the access log does, and every malformed packet.
            .with_target("hickory_server", LevelFilter::WARN.min(self.default_level()))
            .with_targets(libraries.map(|(name, level)| (name.clone(), *level)))
            .with_targets(names().map(|name| (path(name), self.of(name))))
            .with_target(LOG_ITSELF, LevelFilter::INFO)
    }

    /// The level of a module or a record.
    #[must_use]
    pub fn of(&self, name: &str) -> LevelFilter {
        // A module's own directive is more specific than one for the whole program.
        let program = if LOG_MODULES.contains(&name) { self.named.get("plgw") } else { None };
        self.named
            .get(name)
            .or_else(|| self.named.get(&path(name)))
            .or(program)
            .copied()
            .unwrap_or(self.default_level())
    }

    fn default_level(&self) -> LevelFilter {
        self.default.unwrap_or(LevelFilter::INFO)
    }
}

impl FromStr for LogLevels {
    type Err = ParseTextError;

    /// Parses `text`; a name that is neither a module nor a path is refused, because it would silently have no effect.
    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        let levels = Self::parse_any(text)?;
        let is_known = |name: &str| name == "plgw" || name.contains("::") || names().any(|known| known == name);
        match levels.named.keys().find(|name| !is_known(name)) {
            Some(name) => {
                let modules = names().collect::<Vec<_>>().join(", ");
                Err(ParseTextError::new(format!("no module `{name}` logs; those that do are {modules}")))
            }
            None => Ok(levels),
        }
    }
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = self.default.map(|level| level.to_string());
        let named = self.named.iter().map(|(name, level)| format!("{name}={level}"));
        f.write_str(&default.into_iter().chain(named).collect::<Vec<_>>().join(","))
    }
}

/// Parses the name of a level. `LevelFilter` also accepts numbers and the empty text.
fn parse_level(text: &str) -> Option<LevelFilter> {
    let is_name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic());
    if is_name { text.parse().ok() } else { None }
}

/// The log target of a module or a record.
fn path(name: &str) -> String {
    if LOG_MODULES.contains(&name) { format!("plgw::{name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use tracing::Level;

    use super::*;

    fn parsed(text: &str) -> LogLevels {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_module_has_its_own_level_and_the_others_the_default() {
        let levels = parsed("data=debug,dns=warn");
        assert_eq!((levels.of("data"), levels.of("api")), (LevelFilter::DEBUG, LevelFilter::INFO));
        let levels = parsed(" WARN , access=off, plgw=error, control ");
        assert_eq!((levels.of("access"), levels.of("admin")), (LevelFilter::OFF, LevelFilter::WARN));
        assert_eq!((levels.of("data"), levels.of("control")), (LevelFilter::ERROR, LevelFilter::TRACE));
        let filter = levels.filter();
        assert!(filter.would_enable("plgw::control::owner", &Level::TRACE));
        assert!(!filter.would_enable("plgw::data::flow", &Level::WARN) && filter.would_enable("hyper", &Level::WARN));
        assert!(filter.would_enable(LOG_ITSELF, &Level::INFO), "what the log reports of itself");
    }

    #[test]
    fn a_directive_for_one_module_does_not_change_others() {
        let before = parsed("warn,dns=trace");
        let after = before.clone().merged_with(&parsed("data=debug"));
        assert_eq!(after.to_string(), "warn,data=debug,dns=trace");
        for module in LOG_MODULES.into_iter().chain(LOG_RECORDS).filter(|module| *module != "data") {
            assert_eq!(after.of(module), before.of(module), "{module}");
        }
        assert_eq!(after.of("data"), LevelFilter::DEBUG);
        let louder = after.merged_with(&parsed("info"));
        assert_eq!(louder.to_string(), "info,data=debug,dns=trace", "a bare level is the default's");
    }

    #[test]
    fn the_module_app_is_not_app_services() {
        let levels = parsed("app=debug");
        assert_eq!((levels.of("app"), levels.of("appservices")), (LevelFilter::DEBUG, LevelFilter::INFO));
        let filter = levels.filter();
        assert!(filter.would_enable("plgw::app", &Level::DEBUG));
        assert!(!filter.would_enable("plgw::appservices::worker", &Level::DEBUG));
    }

    #[test]
    fn levels_are_written_as_they_are_read() {
        for text in ["info", "off,dns=trace", "warn,access=info,plgw::dns::udp=debug", "data=debug"] {
            assert_eq!(parsed(text).to_string(), text);
        }
        assert_eq!(parsed(""), LogLevels::default());
    }

    #[test]
    fn unknown_levels_and_modules_are_refused_by_name() {
        let error = |text: &str| text.parse::<LogLevels>().expect_err(text).to_string();
        assert_eq!(error("data=loud"), "`loud` is no log level; write off, error, warn, info, debug or trace");
        assert!(error("data=3").starts_with("`3` is no log level") && error("data=").starts_with("`` is no log level"));
        assert!(error("dats=debug").starts_with("no module `dats` logs; those that do are api, app,"));
        assert!(error("dats=debug").ends_with("access, admin"));
        assert_eq!(error("info,warn"), "`info` and `warn` are both the default level; keep one");
        assert!(error("=debug").contains("is no module's name"));
        assert!(error("[span]=debug").contains("is no module's name"));
        assert!(LogLevels::parse_any("hyper=debug").is_ok(), "`RUST_LOG` is other programs' too");
    }

    /// A module that is missing from the list could not have its own level.
    #[test]
    fn the_modules_are_those_that_log() {
        fn logs(directory: &Path) -> bool {
            let entries =
                std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
            entries.into_iter().any(|path| {
                let logs_itself = || {
                    let text = std::fs::read_to_string(&path).expect("a text");
                    ["error!", "warn!", "info!", "debug!", "trace!"]
                        .iter()
                        .any(|level| text.contains(&format!("tracing::{level}")))
                };
                if path.is_dir() {
                    logs(&path)
                } else {
                    path.extension().is_some_and(|ext| ext == "rs") && logs_itself()
                }
            })
        }
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let modules = std::fs::read_dir(sources).expect("a directory").map(|entry| entry.expect("an entry").path());
        let logging: BTreeSet<String> = modules
            .filter(|path| path.is_dir() && logs(path))
            .map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
            .collect();
        assert_eq!(logging, LOG_MODULES.map(str::to_owned).into());
    }
}

//! Logs: to standard error, for people or as JSON, with levels that can change while the process runs.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use super::log_writer::LogWriter;
use super::repeats::{LineLimit, Repeats, RepeatsLayer, SUMMARY};
use crate::model::{DEFAULT_LOG_LEVEL, LogLevels, ParseLogLevelsError};

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, fields at its top level.
    Json,
}

impl LogFormat {
    /// Its one lower-case name, as `LOG_FORMAT` has it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogError::Format(other.to_owned())),
        }
    }
}

/// Why logging could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `LOG_FORMAT` names no format.
    #[error("`LOG_FORMAT={0}` is no log format; write `text` or `json`")]
    Format(String),
    /// The levels can't be read.
    #[error("`{levels}` does not say log levels: {why}")]
    Levels {
        /// What was written.
        levels: String,
        /// Why not: a part of the message.
        why: ParseLogLevelsError,
    },
    /// No thread for the lines.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] io::Error),
    /// Another subscriber is already in place.
    #[error("logging is already set up in this process")]
    AlreadySet,
    /// The subscriber is gone.
    #[error("logging has ended")]
    Ended,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Levels, as `RUST_LOG` has them: `info`, `warn,dns=debug`.
    pub levels: String,
    /// Whether somebody chose them: a config file's then stand back.
    pub chosen: bool,
    /// How a line looks.
    pub format: LogFormat,
    /// Colours; only the text format has them.
    pub colours: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        let levels = DEFAULT_LOG_LEVEL.label().to_owned();
        Self { levels, chosen: false, format: LogFormat::Text, colours: false }
    }
}

impl LogSettings {
    /// The settings of the environment: `RUST_LOG`, `LOG_FORMAT` (`text`, `json`), `NO_COLOR`; colours on a terminal only.
    ///
    /// # Errors
    ///
    /// [`LogError::Format`] when `LOG_FORMAT` is something else.
    pub fn from_env() -> Result<Self, LogError> {
        Self::from_lookup(|name| std::env::var(name).ok(), io::stderr().is_terminal())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>, terminal: bool) -> Result<Self, LogError> {
        let value = |name| lookup(name).filter(|value| !value.is_empty());
        let levels = value("RUST_LOG");
        Ok(Self {
            chosen: levels.is_some(),
            levels: levels.unwrap_or_else(|| DEFAULT_LOG_LEVEL.label().to_owned()),
            format: value("LOG_FORMAT").map_or(Ok(LogFormat::default()), |format| format.parse())?,
            colours: terminal && value("NO_COLOR").is_none(),
        })
    }

    /// Starts logging to standard error, for the whole process.
    ///
    /// # Errors
    ///
    /// [`LogError::Levels`] when the levels can't be read; [`LogError::AlreadySet`] the second time.
    pub fn start(&self) -> Result<LogHandle, LogError> {
        let (subscriber, handle) = self.subscriber(io::stderr)?;
        subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
        Ok(handle)
    }

    /// The same through a queue and a thread of its own: for daemons, which a reader who stops reading must not stop.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and [`LogError::Thread`].
    pub fn start_queued(&self) -> Result<LogHandle, LogError> {
        let repeats = Arc::new(Repeats::default());
        let sweeping = Arc::clone(&repeats);
        let writer = LogWriter::start(io::stderr(), move || {
            announce(&sweeping, false);
            sweeping.may_have_more(Instant::now())
        });
        let writer = writer.map_err(LogError::Thread)?;
        let (subscriber, handle) = self.subscriber(writer.clone())?;
        let layer = RepeatsLayer(Arc::clone(&repeats));
        subscriber.with(layer).try_init().map_err(|_| LogError::AlreadySet)?;
        Ok(handle.queued(writer, repeats))
    }

    /// A subscriber with these settings that writes to `writer`.
    pub(crate) fn subscriber<W>(
        &self,
        writer: W,
    ) -> Result<(impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<W>, LogHandle), LogError>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let levels = parse(&self.levels)?;
        let (filter, reload) = reload::Layer::new(filter_of(&levels));
        let subscriber = tracing_subscriber::registry().with(filter).with(self.layer(writer));
        let handle = LogHandle {
            set: Arc::new(move |levels| reload.reload(filter_of(levels)).map_err(|_| LogError::Ended)),
            levels: Arc::new(Mutex::new(levels.clone())),
            started_with: levels,
            chosen: self.chosen,
            format: self.format,
            repeats: Arc::default(),
            writer: None,
        };
        Ok((subscriber, handle))
    }

    fn layer<S, W>(&self, writer: W) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        match self.format {
            LogFormat::Text => layer.with_ansi(self.colours).boxed(),
            LogFormat::Json => layer.json().flatten_event(true).boxed(),
        }
    }
}

/// Puts other levels in place; hides the type of the subscriber that has them.
type SetLevels = dyn Fn(&LogLevels) -> Result<(), LogError> + Send + Sync;

/// Changes what is logged while the process runs, and says what is. Clones are the same log.
#[derive(Clone)]
pub struct LogHandle {
    set: Arc<SetLevels>,
    levels: Arc<Mutex<LogLevels>>,
    started_with: LogLevels,
    chosen: bool,
    format: LogFormat,
    repeats: Arc<Repeats>,
    writer: Option<LogWriter>,
}

impl LogHandle {
    /// The same log, written through a queue, its repeating lines limited.
    fn queued(self, writer: LogWriter, repeats: Arc<Repeats>) -> Self {
        Self { repeats, writer: Some(writer), ..self }
    }

    /// Waits until what was logged is written, a second at most: for the end of the process.
    pub fn flush(&self) {
        announce(&self.repeats, true);
        if let Some(writer) = &self.writer {
            writer.flush();
        }
    }

    /// Logs `levels` from now on.
    ///
    /// # Errors
    ///
    /// [`LogError::Ended`] when nothing is logged any more.
    pub fn set_levels(&self, levels: &LogLevels) -> Result<(), LogError> {
        // One at a time, so that what is said to be in force is.
        let mut current = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        (self.set)(levels)?;
        if *current != *levels {
            tracing::info!(target: "logs", { from = %current, to = %levels }, "levels changed");
        }
        *current = levels.clone();
        Ok(())
    }

    /// The levels in force.
    #[must_use]
    pub fn levels(&self) -> LogLevels {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The levels at the start.
    #[must_use]
    pub fn started_with(&self) -> &LogLevels {
        &self.started_with
    }

    /// Whether the levels at the start were chosen by `RUST_LOG`.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        self.chosen
    }

    /// How a line looks.
    #[must_use]
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// How often a line may repeat.
    #[must_use]
    pub fn limit(&self) -> LineLimit {
        self.repeats.limit()
    }

    /// Lets lines repeat so often from now on.
    pub fn set_limit(&self, limit: LineLimit) {
        self.repeats.set_limit(limit);
    }

    /// Lines that repeated too often and were left out since the start, by room.
    #[must_use]
    pub fn suppressed(&self) -> BTreeMap<&'static str, u64> {
        self.repeats.total()
    }

    /// Lines that were left out since the start because nobody read standard error in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.writer.as_ref().map_or(0, LogWriter::dropped)
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle").field("levels", &self.levels()).finish_non_exhaustive()
    }
}

/// Says in the log what was left out.
fn announce(repeats: &Repeats, all: bool) {
    repeats.due(Instant::now(), all).iter().for_each(super::repeats::LeftOut::announce);
}

fn parse(levels: &str) -> Result<LogLevels, LogError> {
    LogLevels::parse_any(levels).map_err(|why| LogError::Levels { levels: levels.to_owned(), why })
}

/// The filter of these levels. What the log says of itself is written whatever they are.
fn filter_of(levels: &LogLevels) -> EnvFilter {
    EnvFilter::builder().parse_lossy(format!("{},{SUMMARY}=info", levels.to_filter()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;

    /// Keeps what is written.
    #[derive(Debug, Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes with `settings`.
    fn written(settings: &LogSettings, log: impl FnOnce(&LogHandle)) -> String {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, handle) = settings.subscriber(move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || log(&handle));
        page.text()
    }

    #[test]
    fn text_is_one_plain_line_an_event_with_its_fields() {
        let text = written(&LogSettings::default(), |_| {
            tracing::info!(flow.id = 7, end = "idle", "access: flow closed");
            tracing::debug!("not at this level");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.ends_with("access: flow closed flow.id=7 end=\"idle\"\n"), "{text}");
        assert!(!text.contains('\x1b'), "no colours: {text:?}");
    }

    #[test]
    fn colours_are_for_terminals() {
        let settings = LogSettings { colours: true, ..LogSettings::default() };
        assert!(written(&settings, |_| tracing::info!("x")).contains('\x1b'));
    }

    #[test]
    fn json_is_one_object_a_line_with_its_fields_at_the_top() {
        let settings = LogSettings { format: LogFormat::Json, colours: true, ..LogSettings::default() };
        let text = written(&settings, |_| tracing::warn!(flow.id = 7, "access: flow closed"));
        let object: serde_json::Value = serde_json::from_str(&text).expect("an object");
        assert_eq!((&object["level"], &object["flow.id"]), (&"WARN".into(), &7.into()));
        assert_eq!(object["message"], "access: flow closed");
    }

    #[test]
    fn levels_can_change_while_the_process_runs() {
        let text = written(&LogSettings::default(), |handle| {
            tracing::debug!("one");
            handle.set_levels(&"debug".parse().unwrap()).unwrap();
            tracing::debug!("two");
            handle.set_levels(&"warn,telemetry=info".parse().unwrap()).unwrap();
            tracing::debug!("three");
            tracing::info!("four");
            assert_eq!(handle.levels().to_string(), "warn,telemetry=info");
            handle.set_levels(&"warn".parse().unwrap()).unwrap();
            tracing::info!("five");
            assert_eq!(handle.started_with().to_string(), "info");
        });
        let said: Vec<_> = text.lines().filter(|line| !line.contains(" logs: ")).collect();
        let said: Vec<_> = said.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(said, ["two", "four"]);
        let told = "logs: levels changed from=warn,telemetry=info to=warn\n";
        assert!(text.ends_with(told), "what the log says of itself is always written: {text}");
    }

    #[test]
    fn the_environment_says_levels_format_and_colours() {
        let from = |variables: &[(&str, &str)], terminal| {
            let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            LogSettings::from_lookup(lookup, terminal)
        };
        assert_eq!(from(&[], false).unwrap(), LogSettings::default());
        assert!(from(&[], true).unwrap().colours);
        assert!(!from(&[("NO_COLOR", "1")], true).unwrap().colours);
        let settings = from(&[("RUST_LOG", "debug"), ("LOG_FORMAT", "json")], false).unwrap();
        assert_eq!((settings.levels.as_str(), settings.format), ("debug", LogFormat::Json));
        let error = from(&[("LOG_FORMAT", "xml")], false).expect_err("no format");
        assert_eq!(error.to_string(), "`LOG_FORMAT=xml` is no log format; write `text` or `json`");
    }

    #[test]
    fn levels_that_say_nothing_are_refused_by_what_was_written() {
        let settings = LogSettings { levels: "plgw=loud".to_owned(), ..LogSettings::default() };
        let error = settings.subscriber(io::sink).err().expect("no level");
        assert!(
            error.to_string().starts_with("`plgw=loud` does not say log levels: `loud` is no log level"),
            "{error}"
        );
    }
}

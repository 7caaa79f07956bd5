//! Logging to standard error, as text or JSON, with levels that can be changed at run time.
//!
//! The filter is `tracing_subscriber`'s `Targets`. Its `EnvFilter` also filters by spans, which are not used, depends
//! on regular expressions, which cost build time, and cannot report the level of a module.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, reload};

use crate::model::{LOG_ITSELF, LogLevels, ParseTextError};

/// Capacity of the queue in lines: some seconds of a busy log. Allocated at the start, 32 bytes per line.
const QUEUE: usize = 8192;

/// The format of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Human-readable text.
    #[default]
    Text,
    /// One JSON object per line, with fields at the top level.
    Json,
}

impl LogFormat {
    /// The value in `LOG_FORMAT`.
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

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `LOG_FORMAT` is not a format.
    #[error("`LOG_FORMAT={0}` is no log format; write `text` or `json`")]
    Format(String),
    /// The levels cannot be parsed.
    #[error("`{levels}` is no list of log levels: {why}")]
    Levels {
        /// The input.
        levels: String,
        /// The reason, as part of the message.
        why: ParseTextError,
    },
    /// Another subscriber is already in place.
    #[error("logging is already set up in this process")]
    AlreadySet,
    /// The subscriber was dropped.
    #[error("logging has ended")]
    Ended,
}

/// The levels and the format of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Levels in the syntax of `RUST_LOG`: `info`, `warn,dns=debug`.
    pub levels: String,
    /// Whether the user set them, so that they override those of a config file.
    pub chosen: bool,
    /// The format of a log line.
    pub format: LogFormat,
    /// Whether to use colours, in the text format only.
    pub colours: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        let levels = LogLevels::standard().to_string();
        Self { levels, chosen: false, format: LogFormat::Text, colours: false }
    }
}

impl LogSettings {
    /// Reads the settings from the environment: `RUST_LOG`, `LOG_FORMAT` (`text`, `json`), `NO_COLOR`. Colours are used
    /// on terminals only.
    ///
    /// # Errors
    ///
    /// [`LogError::Format`] when `LOG_FORMAT` is invalid.
    pub fn from_env() -> Result<Self, LogError> {
        Self::from_lookup(|name| std::env::var(name).ok(), io::stderr().is_terminal())
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>, terminal: bool) -> Result<Self, LogError> {
        let value = |name| lookup(name).filter(|value| !value.is_empty());
        let levels = value("RUST_LOG");
        Ok(Self {
            chosen: levels.is_some(),
            levels: levels.unwrap_or_else(|| LogLevels::standard().to_string()),
            format: value("LOG_FORMAT").map_or(Ok(LogFormat::default()), |format| format.parse())?,
            colours: terminal && value("NO_COLOR").is_none(),
        })
    }

    /// Starts process-wide logging to standard error.
    ///
    /// # Errors
    ///
    /// [`LogError::Levels`] when the levels cannot be parsed; [`LogError::AlreadySet`] when called again.
    pub fn start(&self) -> Result<LogHandle, LogError> {
        let (subscriber, handle) = self.subscriber(io::stderr)?;
        subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
        Ok(handle)
    }

    /// Like [`start`](Self::start), through a bounded queue and a writer thread, so that a reader of standard error
    /// that stops reading cannot block the process. When the queue is full, lines are dropped and counted.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_queued(&self) -> Result<LogHandle, LogError> {
        let (writer, guard) = queue(io::stderr());
        let dropped = writer.error_counter();
        let (subscriber, handle) = self.subscriber(writer)?;
        subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
        Ok(LogHandle { queue: Some(Queue { dropped, guard: Arc::new(Mutex::new(Some(guard))) }), ..handle })
    }

    /// Creates a subscriber with these settings that writes to `writer`.
    pub(crate) fn subscriber<W>(
        &self,
        writer: W,
    ) -> Result<(impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync + use<W>, LogHandle), LogError>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let levels = parse(&self.levels)?;
        let (filter, reload) = reload::Layer::new(levels.filter());
        let subscriber = tracing_subscriber::registry().with(filter).with(self.layer(writer));
        let handle = LogHandle {
            set: Arc::new(move |levels| reload.reload(levels.filter()).map_err(|_| LogError::Ended)),
            levels: Arc::new(Mutex::new(levels.clone())),
            started_with: levels,
            chosen: self.chosen,
            format: self.format,
            queue: None,
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

/// Sets the levels; hides the subscriber's type.
type SetLevels = dyn Fn(&LogLevels) -> Result<(), LogError> + Send + Sync;

/// Reads and changes the levels at run time. Clones share the log.
#[derive(Clone)]
pub struct LogHandle {
    set: Arc<SetLevels>,
    levels: Arc<Mutex<LogLevels>>,
    started_with: LogLevels,
    chosen: bool,
    format: LogFormat,
    queue: Option<Queue>,
}

/// The queue of [`LogSettings::start_queued`].
#[derive(Clone)]
struct Queue {
    dropped: ErrorCounter,
    /// Dropping it writes the queued lines.
    guard: Arc<Mutex<Option<WorkerGuard>>>,
}

impl LogHandle {
    /// Writes the queued lines, for at most a second, and ends logging. For the end of the process.
    pub fn flush(&self) {
        if let Some(queue) = &self.queue {
            drop(queue.guard.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// Replaces the current levels.
    ///
    /// # Errors
    ///
    /// [`LogError::Ended`] when the subscriber was dropped.
    pub fn set_levels(&self, levels: &LogLevels) -> Result<(), LogError> {
        self.change_to(|_| LogLevels::standard().merged_with(levels))
    }

    /// Merges `levels` into the current ones: modules that they do not name keep their level.
    ///
    /// # Errors
    ///
    /// As [`set_levels`](Self::set_levels).
    pub fn merge_levels(&self, levels: &LogLevels) -> Result<(), LogError> {
        self.change_to(|current| current.merged_with(levels))
    }

    fn change_to(&self, change: impl FnOnce(LogLevels) -> LogLevels) -> Result<(), LogError> {
        // Locked for the whole change, so that the stored levels are those in force.
        let mut current = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let levels = change(current.clone());
        (self.set)(&levels)?;
        if *current != levels {
            tracing::info!(target: LOG_ITSELF, from = %current, to = %levels, "levels changed");
        }
        *current = levels;
        Ok(())
    }

    /// The current levels.
    #[must_use]
    pub fn levels(&self) -> LogLevels {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The initial levels.
    #[must_use]
    pub fn started_with(&self) -> &LogLevels {
        &self.started_with
    }

    /// Whether the initial levels came from `RUST_LOG`.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        self.chosen
    }

    /// The format of a log line.
    #[must_use]
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// Lines dropped since the start because standard error was not read in time.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.dropped.dropped_lines() as u64)
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle").field("levels", &self.levels()).finish_non_exhaustive()
    }
}

/// A writer that never blocks on `out`, and its guard.
fn queue(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().buffered_lines_limit(QUEUE).lossy(true).thread_name("plgw-log").finish(out)
}

fn parse(levels: &str) -> Result<LogLevels, LogError> {
    let parsed = LogLevels::parse_any(levels).map_err(|why| LogError::Levels { levels: levels.to_owned(), why })?;
    Ok(LogLevels::standard().merged_with(&parsed))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;

    /// Captures the output.
    #[derive(Debug, Clone, Default)]
    struct CapturedLog(Arc<Mutex<Vec<u8>>>);

    impl CapturedLog {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for CapturedLog {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The output of `log` with `settings`.
    fn written(settings: &LogSettings, log: impl FnOnce(&LogHandle)) -> String {
        let page = CapturedLog::default();
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
        let line = "logs: levels changed from=warn,telemetry=info to=warn\n";
        assert!(text.ends_with(line), "changes of the levels are always logged: {text}");
    }

    #[test]
    fn a_directive_is_merged_into_those_in_force() {
        written(&LogSettings { levels: "warn,dns=debug".to_owned(), ..LogSettings::default() }, |handle| {
            handle.merge_levels(&"data=trace".parse().unwrap()).unwrap();
            assert_eq!(handle.levels().to_string(), "warn,data=trace,dns=debug");
            handle.merge_levels(&"info".parse().unwrap()).unwrap();
            assert_eq!(handle.levels().to_string(), "info,data=trace,dns=debug");
            handle.set_levels(&"api=debug".parse().unwrap()).unwrap();
            assert_eq!(handle.levels().to_string(), "info,api=debug");
        });
    }

    /// Blocks writes until the sender is dropped.
    struct Stuck(Receiver<()>, CapturedLog);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stops_does_not_block_writers_and_dropped_lines_are_counted() {
        let (go, stuck) = sync_channel(0);
        let page = CapturedLog::default();
        let (writer, guard) = queue(Stuck(stuck, page.clone()));
        let dropped = writer.error_counter();
        for n in 0..QUEUE + 100 {
            writer.make_writer().write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        drop(go);
        drop(guard);
        let missing = dropped.dropped_lines();
        assert!((1..=100).contains(&missing), "{missing}");
        let text = page.text();
        assert!(text.starts_with("line 0\n"), "{}", &text[..50]);
        assert_eq!(text.lines().count() + missing, QUEUE + 100, "queued lines are written at the end");
    }

    #[test]
    fn the_environment_sets_levels_format_and_colours() {
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
    fn invalid_levels_are_refused_with_the_input() {
        let settings = LogSettings { levels: "plgw=loud".to_owned(), ..LogSettings::default() };
        let error = settings.subscriber(io::sink).err().expect("no level");
        assert!(
            error.to_string().starts_with("`plgw=loud` is no list of log levels: `loud` is no log level"),
            "{error}"
        );
    }
}

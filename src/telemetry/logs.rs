//! Logs: to standard error, for people or as JSON, with levels that can change while the process runs.

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;
use std::sync::Arc;

use tracing::Subscriber;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use super::log_writer::LogWriter;

/// What is logged without `RUST_LOG`: what an operator acts on or counts.
const DEFAULT_LEVELS: &str = "info";

/// How a line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, fields at its top level.
    Json,
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
    #[error("`{levels}` does not say log levels; write `info`, or `warn,plgw::dns=debug`")]
    Levels {
        /// What was written.
        levels: String,
        /// Why not.
        #[source]
        source: ParseError,
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
    /// Levels, as `RUST_LOG` has them: `info`, `warn,plgw::dns=debug`.
    pub levels: String,
    /// How a line looks.
    pub format: LogFormat,
    /// Colours; only the text format has them.
    pub colours: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { levels: DEFAULT_LEVELS.to_owned(), format: LogFormat::Text, colours: false }
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
        Ok(Self {
            levels: value("RUST_LOG").unwrap_or_else(|| DEFAULT_LEVELS.to_owned()),
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
        let writer = LogWriter::start(io::stderr()).map_err(LogError::Thread)?;
        let (subscriber, handle) = self.subscriber(writer.clone())?;
        subscriber.try_init().map_err(|_| LogError::AlreadySet)?;
        Ok(LogHandle { flush: Arc::new(move || writer.flush()), ..handle })
    }

    /// A subscriber with these settings that writes to `writer`.
    fn subscriber<W>(&self, writer: W) -> Result<(impl Subscriber + Send + Sync + use<W>, LogHandle), LogError>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let (filter, reload) = reload::Layer::new(parse(&self.levels)?);
        let subscriber = tracing_subscriber::registry().with(filter).with(self.layer(writer));
        let handle = LogHandle {
            set: Arc::new(move |levels| reload.reload(parse(levels)?).map_err(|_| LogError::Ended)),
            flush: Arc::new(|| {}),
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
type SetLevels = dyn Fn(&str) -> Result<(), LogError> + Send + Sync;

/// Changes what is logged while the process runs.
#[derive(Clone)]
pub struct LogHandle {
    set: Arc<SetLevels>,
    flush: Arc<dyn Fn() + Send + Sync>,
}

impl LogHandle {
    /// Waits until what was logged is written, a second at most: for the end of the process.
    pub fn flush(&self) {
        (self.flush)();
    }

    /// Logs `levels` from now on: `info`, `warn,plgw::dns=debug`.
    ///
    /// # Errors
    ///
    /// [`LogError::Levels`] when they can't be read; those before stay then.
    pub fn set_levels(&self, levels: &str) -> Result<(), LogError> {
        (self.set)(levels)
    }
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle").finish_non_exhaustive()
    }
}

fn parse(levels: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(levels).map_err(|source| LogError::Levels { levels: levels.to_owned(), source })
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
            handle.set_levels("debug").unwrap();
            tracing::debug!("two");
            handle.set_levels("plgw=loud").expect_err("no level");
            tracing::debug!("three");
            handle.set_levels("warn").unwrap();
            tracing::info!("four");
        });
        let said: Vec<_> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(said, ["two", "three"]);
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
        assert!(error.to_string().starts_with("`plgw=loud` does not say log levels"), "{error}");
    }
}

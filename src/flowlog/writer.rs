//! The thread that writes the logs, and the handle by which it is told.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dashmap::DashSet;
use metrics::{Counter, Key, Label, Level, Metadata, Recorder};

use super::access;
use super::event::{Ended, Interface, OpenFlow, Refused};
use super::file::RotatingFile;
use super::record::Action;
use super::window::Window;
use crate::model::FlowLogFormat;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

const RECORDS: &str = "plgw_flow_log_records_total";
const SKIPPED: &str = "plgw_flow_log_skipped_total";

/// Events that may wait: some seconds of a busy gateway, a few MiB.
const QUEUE: usize = 16_384;

/// How long the end of the process waits for the last records.
const LAST_RECORDS: Duration = Duration::from_secs(2);

/// Where a log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To standard output.
    Stdout,
    /// To a file that is put aside at a size.
    File {
        /// The file.
        path: PathBuf,
        /// At this many bytes it is put aside.
        rotate_size: u64,
        /// So many older ones are kept.
        keep: usize,
    },
}

/// Which flows are recorded, in AWS' words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Traffic {
    /// ALL.
    #[default]
    All,
    /// ACCEPT.
    Accept,
    /// REJECT.
    Reject,
}

/// How flow logs are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowLogOptions {
    /// Where to.
    pub destination: Destination,
    /// The aggregation interval.
    pub interval: Duration,
    /// Which flows.
    pub traffic: Traffic,
    /// The fields.
    pub format: FlowLogFormat,
    /// The owner of the interfaces.
    pub account: String,
}

/// Which logs are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Flow logs; `None`: not.
    pub flow: Option<FlowLogOptions>,
    /// Access logs; `None`: not.
    pub access: Option<Destination>,
}

/// Why a log can't be written.
#[derive(Debug, thiserror::Error)]
pub enum FlowLogError {
    /// Its file.
    #[error("cannot write {log} logs to {}", .path.display())]
    File {
        /// `flow` or `access`.
        log: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Its thread.
    #[error("cannot start the thread that writes flow logs")]
    Thread(#[source] io::Error),
}

enum Message {
    Ended(Box<Ended>),
    Refused(Box<Refused>),
    Window(Vec<OpenFlow>, Vec<Interface>, SystemTime),
    /// Everything before it is written when this is answered.
    Flush(SyncSender<()>),
}

/// What is told goes here. Clones lead to the same place.
#[derive(Clone)]
pub struct FlowLog {
    queue: SyncSender<Message>,
    lost: Arc<Lost>,
    problem: Arc<Mutex<Option<String>>>,
    interval: Option<Duration>,
}

/// What found the queue full.
struct Lost {
    interfaces: DashSet<IpAddr>,
    some: AtomicBool,
    counters: Vec<Counter>,
}

impl fmt::Debug for FlowLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowLog").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl FlowLog {
    /// Opens the logs and starts their thread; `None` when none is wanted.
    ///
    /// # Errors
    ///
    /// [`FlowLogError`] when a file can't be opened.
    pub fn start(options: Options, recorder: &dyn Recorder) -> Result<Option<Self>, FlowLogError> {
        let Options { flow, access } = options;
        if flow.is_none() && access.is_none() {
            return Ok(None);
        }
        recorder.describe_counter(RECORDS.into(), None, "Lines written to flow and access logs.".into());
        recorder.describe_counter(
            SKIPPED.into(),
            None,
            "Flows that a log lacks: the queue was full, or the disk.".into(),
        );
        let counter = |name: &'static str, log: &'static str| {
            recorder.register_counter(&Key::from_parts(name, vec![Label::from_static_parts("log", log)]), &METADATA)
        };
        let problem = Arc::new(Mutex::default());
        let interval = flow.as_ref().map(|flow| flow.interval);
        let mut counters = Vec::new();
        let mut log = |log: &'static str, destination: &Destination, header: String| {
            counters.push(counter(SKIPPED, log));
            Ok(Log {
                out: Out::open(log, destination, header)?,
                written: counter(RECORDS, log),
                skipped: counter(SKIPPED, log),
                problem: Arc::clone(&problem),
                failing: false,
                name: log,
            })
        };
        let flow = match flow {
            Some(options) => Some((log("flow", &options.destination, options.format.header())?, options)),
            None => None,
        };
        let access = access.map(|destination| log("access", &destination, String::new())).transpose()?;
        let lost = Arc::new(Lost { interfaces: DashSet::new(), some: AtomicBool::new(false), counters });
        let (queue, messages) = sync_channel(QUEUE);
        let writer = Writer { flow, access, window: Window::new(SystemTime::now()), lost: Arc::clone(&lost) };
        std::thread::Builder::new()
            .name("plgw-flow-logs".to_owned())
            .spawn(move || writer.run(&messages))
            .map_err(FlowLogError::Thread)?;
        Ok(Some(Self { queue, lost, problem, interval }))
    }

    /// The aggregation interval of flow logs; `None`: they are not written.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Why the last line could not be written; `None`: it was.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A flow ended. Never waits.
    pub fn ended(&self, flow: Ended) {
        let ip = flow.local.ip();
        self.tell(Message::Ended(Box::new(flow)), ip);
    }

    /// A connection was refused. Never waits.
    pub fn refused(&self, flow: Refused) {
        let ip = flow.local.ip();
        self.tell(Message::Refused(Box::new(flow)), ip);
    }

    /// Closes the window: `open` flows are recorded, and of `interfaces` those at which nothing was. Waits for room.
    pub fn close_window(&self, open: Vec<OpenFlow>, interfaces: Vec<Interface>) {
        // Whoever took it is gone with the process.
        let _ = self.queue.send(Message::Window(open, interfaces, SystemTime::now()));
    }

    /// Waits until what was told is written, but not for long.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST_RECORDS);
        }
    }

    fn tell(&self, message: Message, ip: IpAddr) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(message) {
            self.lost.interfaces.insert(ip);
            self.lost.some.store(true, Ordering::Relaxed);
            self.lost.counters.iter().for_each(|counter| counter.increment(1));
        }
    }
}

struct Writer {
    flow: Option<(Log, FlowLogOptions)>,
    access: Option<Log>,
    window: Window,
    lost: Arc<Lost>,
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = match messages.try_recv() {
                Ok(message) => message,
                // Nothing more to do now: what is written can be read.
                Err(TryRecvError::Empty) => {
                    self.flush();
                    let Ok(message) = messages.recv() else { return };
                    message
                }
                Err(TryRecvError::Disconnected) => return self.flush(),
            };
            match message {
                Message::Ended(flow) => {
                    if let Some(log) = &mut self.access {
                        log.line(&access::closed(&flow));
                    }
                    if self.flow.is_some() {
                        self.window.ended(&flow);
                    }
                }
                Message::Refused(flow) => {
                    if let Some(log) = &mut self.access {
                        log.line(&access::refused(&flow));
                    }
                    if self.flow.is_some() {
                        self.window.refused(&flow);
                    }
                }
                Message::Window(open, interfaces, now) => self.close_window(&open, &interfaces, now),
                Message::Flush(done) => {
                    self.flush();
                    let _ = done.try_send(());
                }
            }
        }
    }

    fn close_window(&mut self, open: &[OpenFlow], interfaces: &[Interface], now: SystemTime) {
        if self.lost.some.swap(false, Ordering::Relaxed) {
            self.lost.interfaces.retain(|ip| {
                self.window.skipped(*ip);
                false
            });
        }
        let records = self.window.close(now, open, interfaces);
        let Some((log, options)) = &mut self.flow else { return };
        for record in records {
            let wanted = match (options.traffic, record.action()) {
                (Traffic::All, _) | (_, None) => true,
                (Traffic::Accept, Some(action)) => action == Action::Accept,
                (Traffic::Reject, Some(action)) => action == Action::Reject,
            };
            if wanted {
                log.line(&record.line(&options.format, &options.account));
            }
        }
    }

    fn flush(&mut self) {
        for log in self.flow.iter_mut().map(|(log, _)| log).chain(&mut self.access) {
            log.flush();
        }
    }
}

/// A log and what is counted of it.
struct Log {
    out: Out,
    written: Counter,
    skipped: Counter,
    problem: Arc<Mutex<Option<String>>>,
    /// The last line failed, which is said once.
    failing: bool,
    name: &'static str,
}

enum Out {
    Stdout(io::Stdout),
    File(RotatingFile),
}

impl Out {
    fn open(log: &'static str, destination: &Destination, header: String) -> Result<Self, FlowLogError> {
        match destination {
            Destination::Stdout => Ok(Self::Stdout(io::stdout())),
            Destination::File { path, rotate_size, keep } => RotatingFile::open(path, *rotate_size, *keep, header)
                .map(Self::File)
                .map_err(|source| FlowLogError::File { log, path: path.clone(), source }),
        }
    }
}

impl Log {
    fn line(&mut self, line: &str) {
        let written = match &mut self.out {
            Out::Stdout(out) => writeln!(out, "{line}"),
            Out::File(file) => file.line(line),
        };
        match &written {
            Ok(()) => self.written.increment(1),
            Err(_) => self.skipped.increment(1),
        }
        self.say(written);
    }

    fn flush(&mut self) {
        let flushed = match &mut self.out {
            Out::Stdout(out) => out.flush(),
            Out::File(file) => file.flush(),
        };
        if flushed.is_err() {
            self.say(flushed);
        }
    }

    fn say(&mut self, outcome: io::Result<()>) {
        match outcome {
            Err(error) if !self.failing => {
                self.failing = true;
                let problem = format!("the {} log can't be written: {error}", self.name);
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
                tracing::error!(log = self.name, %error, "flow logs can't be written; what is lost is counted");
            }
            Err(_) => {}
            Ok(()) if self.failing => {
                self.failing = false;
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            Ok(()) => {}
        }
    }
}

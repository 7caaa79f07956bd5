//! The thread that writes the logs, and the handle that sends events to it.

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
use super::event::{EndedFlow, Interface, OpenFlow, RefusedFlow};
use super::file::RotatingFile;
use super::record::Action;
use super::window::Window;
use crate::config::{FlowLogSettings, LogDestination, TrafficType};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

const RECORDS: &str = "plgw_flow_log_records_total";
const SKIPPED: &str = "plgw_flow_log_skipped_total";

/// Capacity of the event queue: some seconds of a busy gateway, a few MiB.
const QUEUE: usize = 16_384;

/// Time limit for writing the last records at the end of the process.
const LAST_RECORDS: Duration = Duration::from_secs(2);

/// Why a log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FlowLogError {
    /// The file cannot be opened.
    #[error("cannot write {log} logs to {}", .path.display())]
    File {
        /// `flow` or `access`.
        log: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The thread cannot be started.
    #[error("cannot start the thread that writes flow logs")]
    Thread(#[source] io::Error),
}

enum WriterMessage {
    EndedFlow(Box<EndedFlow>),
    RefusedFlow(Box<RefusedFlow>),
    Window(Vec<OpenFlow>, Vec<Interface>, SystemTime),
    /// Answered once all earlier messages are written.
    Flush(SyncSender<()>),
}

/// The handle of the log thread. Clones share the thread.
#[derive(Clone)]
pub struct FlowLog {
    queue: SyncSender<WriterMessage>,
    lost: Arc<LostEvents>,
    problem: Arc<Mutex<Option<String>>>,
    interval: Option<Duration>,
}

/// Events that found the queue full.
struct LostEvents {
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
    /// Opens the logs and starts the thread; `None` if both logs are disabled.
    ///
    /// # Errors
    ///
    /// [`FlowLogError`] when a file cannot be opened or the thread cannot be started.
    pub fn start(
        flow: Option<FlowLogSettings>,
        access: Option<LogDestination>,
        recorder: &dyn Recorder,
    ) -> Result<Option<Self>, FlowLogError> {
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
        let mut log = |log: &'static str, destination: &LogDestination, header: String| {
            counters.push(counter(SKIPPED, log));
            Ok(Log {
                out: LogOutput::open(log, destination, header)?,
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
        let lost = Arc::new(LostEvents { interfaces: DashSet::new(), some: AtomicBool::new(false), counters });
        let (queue, messages) = sync_channel(QUEUE);
        let writer = LogWriter { flow, access, window: Window::new(SystemTime::now()), lost: Arc::clone(&lost) };
        std::thread::Builder::new()
            .name("plgw-flow-logs".to_owned())
            .spawn(move || writer.run(&messages))
            .map_err(FlowLogError::Thread)?;
        Ok(Some(Self { queue, lost, problem, interval }))
    }

    /// The aggregation interval of flow logs; `None` if they are disabled.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// Why the last line could not be written; `None` if it was.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends the end of a flow. Never blocks.
    pub fn ended(&self, flow: EndedFlow) {
        let ip = flow.flow.local.ip();
        self.enqueue(WriterMessage::EndedFlow(Box::new(flow)), ip);
    }

    /// Sends a refused connection. Never blocks.
    pub fn refused(&self, flow: RefusedFlow) {
        let ip = flow.local.ip();
        self.enqueue(WriterMessage::RefusedFlow(Box::new(flow)), ip);
    }

    /// Closes the window: records `open` flows, and `interfaces` without traffic. Blocks while the queue is full.
    pub fn close_window(&self, open: Vec<OpenFlow>, interfaces: Vec<Interface>) {
        // Fails only if the thread has ended with the process.
        let _ = self.queue.send(WriterMessage::Window(open, interfaces, SystemTime::now()));
    }

    /// Waits for all events so far to be written, at most for a second or so (`LAST_RECORDS`).
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.send(WriterMessage::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST_RECORDS);
        }
    }

    fn enqueue(&self, message: WriterMessage, ip: IpAddr) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(message) {
            self.lost.interfaces.insert(ip);
            self.lost.some.store(true, Ordering::Relaxed);
            self.lost.counters.iter().for_each(|counter| counter.increment(1));
        }
    }
}

struct LogWriter {
    flow: Option<(Log, FlowLogSettings)>,
    access: Option<Log>,
    window: Window,
    lost: Arc<LostEvents>,
}

impl LogWriter {
    fn run(mut self, messages: &Receiver<WriterMessage>) {
        loop {
            let message = match messages.try_recv() {
                Ok(message) => message,
                // The queue is empty: flush, so that readers see all lines.
                Err(TryRecvError::Empty) => {
                    self.flush();
                    let Ok(message) = messages.recv() else { return };
                    message
                }
                Err(TryRecvError::Disconnected) => return self.flush(),
            };
            match message {
                WriterMessage::EndedFlow(flow) => {
                    if let Some(log) = &mut self.access {
                        log.line(&access::closed(&flow));
                    }
                    if self.flow.is_some() {
                        self.window.ended(&flow);
                    }
                }
                WriterMessage::RefusedFlow(flow) => {
                    if let Some(log) = &mut self.access {
                        log.line(&access::refused(&flow));
                    }
                    if self.flow.is_some() {
                        self.window.refused(&flow);
                    }
                }
                WriterMessage::Window(open, interfaces, now) => self.close_window(&open, &interfaces, now),
                WriterMessage::Flush(done) => {
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
                (TrafficType::All, _) | (_, None) => true,
                (TrafficType::Accept, Some(action)) => action == Action::Accept,
                (TrafficType::Reject, Some(action)) => action == Action::Reject,
            };
            if wanted {
                log.line(&record.line(&options.format, &options.account_id));
            }
        }
    }

    fn flush(&mut self) {
        for log in self.flow.iter_mut().map(|(log, _)| log).chain(&mut self.access) {
            log.flush();
        }
    }
}

/// An open log with its metrics.
struct Log {
    out: LogOutput,
    written: Counter,
    skipped: Counter,
    problem: Arc<Mutex<Option<String>>>,
    /// The last write failed; further failures are not logged.
    failing: bool,
    name: &'static str,
}

enum LogOutput {
    Stdout(io::Stdout),
    File(RotatingFile),
}

impl LogOutput {
    fn open(log: &'static str, destination: &LogDestination, header: String) -> Result<Self, FlowLogError> {
        match destination {
            LogDestination::Stdout => Ok(Self::Stdout(io::stdout())),
            LogDestination::File { path, rotate_size, keep } => {
                RotatingFile::open(path, *rotate_size as u64, *keep, header)
                    .map(Self::File)
                    .map_err(|source| FlowLogError::File { log, path: path.clone(), source })
            }
        }
    }
}

impl Log {
    fn line(&mut self, line: &str) {
        let written = match &mut self.out {
            LogOutput::Stdout(out) => writeln!(out, "{line}"),
            LogOutput::File(file) => file.line(line),
        };
        match &written {
            Ok(()) => self.written.increment(1),
            Err(_) => self.skipped.increment(1),
        }
        self.report(written);
    }

    fn flush(&mut self) {
        let flushed = match &mut self.out {
            LogOutput::Stdout(out) => out.flush(),
            LogOutput::File(file) => file.flush(),
        };
        if flushed.is_err() {
            self.report(flushed);
        }
    }

    fn report(&mut self, outcome: io::Result<()>) {
        match outcome {
            Err(error) if !self.failing => {
                self.failing = true;
                let problem = format!("failed to write the {} log: {error}", self.name);
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
                tracing::error!(log = self.name, %error, "failed to write a flow log; lost records are counted");
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

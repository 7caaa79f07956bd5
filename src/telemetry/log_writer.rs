//! Lines on their way to standard error: through a bounded queue and a thread of its own, so that a reader who stops
//! reading stops nobody else. What finds the queue full is left out, counted, and said as soon as there is room.
//!
//! The queue is a list that grows with its lines and whose length is counted beside it, as a bounded channel of the standard
//! library has room for its longest from the start: a third of a MiB that is hardly ever used.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait: some seconds of a busy log, a few MiB at the most.
const QUEUE: usize = 8192;

/// How long the end of the process waits for lines that are on their way.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How often somebody looks whether there is something to say of the lines themselves.
const SWEEP: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    /// Everything before it is written when this is answered.
    Flush(SyncSender<()>),
}

/// Where log lines go. Clones lead to the same place.
#[derive(Clone, Debug)]
pub(super) struct LogWriter {
    queue: Sender<Message>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Lines in the queue.
    waiting: AtomicUsize,
    /// Lines that were left out since the start.
    left_out: AtomicU64,
}

impl LogWriter {
    /// A writer with a thread that writes to `out`. After a line, and then about once a second for as long as it says so,
    /// it calls `sweep`, which may log. While nobody logs, the thread sleeps.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        sweep: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, lines) = channel();
        let counts = Arc::<Counts>::default();
        let counting = Arc::clone(&counts);
        let work = move || write(&lines, &counting, out, &sweep);
        std::thread::Builder::new().name("plgw-log".to_owned()).spawn(work)?;
        Ok(Self { queue, counts })
    }

    /// Lines that were left out since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.counts.left_out.load(Ordering::Relaxed)
    }

    /// Waits until what was logged is written, but not for long.
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.queue.send(Message::Flush(done)).is_ok() {
            // Nobody reads: the process ends all the same.
            let _ = written.recv_timeout(LAST_LINES);
        }
    }

    /// Sends a line, or counts it where too many wait already.
    fn send(&self, line: Vec<u8>) {
        // Several threads may each see the last place free: it is a bound for the memory, not a number that anybody sees.
        if self.counts.waiting.load(Ordering::Relaxed) >= QUEUE {
            self.counts.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.queue.send(Message::Line(line));
    }
}

fn write(lines: &Receiver<Message>, counts: &Counts, mut out: impl Write, sweep: &impl Fn() -> bool) {
    let (mut said, mut swept, mut awake) = (0, Instant::now(), false);
    loop {
        let message = if awake { lines.recv_timeout(SWEEP) } else { lines.recv().map_err(RecvTimeoutError::from) };
        match message {
            Ok(Message::Line(line)) => {
                counts.waiting.fetch_sub(1, Ordering::Relaxed);
                // Where standard error is closed nobody can be told so.
                let _ = out.write_all(&line);
                awake = true;
            }
            Ok(Message::Flush(done)) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let missing = counts.left_out.load(Ordering::Relaxed);
        if missing > said {
            let lines = missing - std::mem::replace(&mut said, missing);
            let _ = writeln!(out, "plgw: {lines} log lines were left out: nobody read standard error in time");
        }
        if awake && swept.elapsed() >= SWEEP {
            swept = Instant::now();
            awake = sweep();
        }
    }
}

/// One line; sent when it is dropped.
#[derive(Debug)]
pub(super) struct Line<'a> {
    writer: &'a LogWriter,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.writer.send(std::mem::take(&mut self.bytes));
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { writer: self, bytes: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing until it is let go.
    struct Stuck(Receiver<()>, Arc<std::sync::Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stops_stops_nobody_and_is_told_what_it_missed() {
        let (go, stuck) = sync_channel(0);
        let written = Arc::default();
        let writer = LogWriter::start(Stuck(stuck, Arc::clone(&written)), || false).expect("a thread");
        for n in 0..QUEUE + 100 {
            writeln!(writer.make_writer(), "line {n}").expect("it never fails");
        }
        drop(go);
        writer.flush();
        let text = String::from_utf8(written.lock().expect("no panic").clone()).expect("text");
        assert!(text.starts_with("line 0\n"), "{}", &text[..50]);
        assert!(text.contains("log lines were left out"));
        assert!((1..=100).contains(&writer.dropped()), "{}", writer.dropped());
    }
}

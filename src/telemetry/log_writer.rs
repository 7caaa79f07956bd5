//! Lines on their way to standard error: through a bounded queue and a thread of its own, so that a reader who stops
//! reading stops nobody else. What finds the queue full is left out, counted, and said as soon as there is room.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait: some seconds of a busy log, a few MiB at the most.
const QUEUE: usize = 8192;

/// How long the end of the process waits for lines that are on their way.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How often somebody looks whether there is something to say of the lines themselves.
const SWEEP: Duration = Duration::from_secs(1);

/// How soon a full queue is tried again at the end.
const TRY_AGAIN: Duration = Duration::from_millis(5);

enum Message {
    Line(Vec<u8>),
    /// Everything before it is written when this is answered.
    Flush(SyncSender<()>),
}

/// Where log lines go. Clones lead to the same place.
#[derive(Clone, Debug)]
pub(super) struct LogWriter {
    queue: SyncSender<Message>,
    /// Since the start.
    left_out: Arc<AtomicU64>,
}

impl LogWriter {
    /// A writer with a thread that writes to `out`, and calls `sweep` about once a second, which may log.
    pub(super) fn start(out: impl Write + Send + 'static, sweep: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let left_out = Arc::new(AtomicU64::new(0));
        let missing = Arc::clone(&left_out);
        let work = move || write(&lines, &missing, out, &sweep);
        std::thread::Builder::new().name("plgw-log".to_owned()).spawn(work)?;
        Ok(Self { queue, left_out })
    }

    /// Lines that were left out since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Waits until what was logged is written, but not for long.
    pub(super) fn flush(&self) {
        let (done, written) = sync_channel(1);
        for _ in 0..LAST_LINES.as_millis() / TRY_AGAIN.as_millis() {
            match self.queue.try_send(Message::Flush(done.clone())) {
                Ok(()) => {
                    // Nobody reads: the process ends all the same.
                    let _ = written.recv_timeout(LAST_LINES);
                    return;
                }
                Err(TrySendError::Full(_)) => std::thread::sleep(TRY_AGAIN),
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

fn write(lines: &Receiver<Message>, left_out: &AtomicU64, mut out: impl Write, sweep: &impl Fn()) {
    let (mut said, mut swept) = (0, Instant::now());
    loop {
        // Where standard error is closed nobody can be told so.
        match lines.recv_timeout(SWEEP) {
            Ok(Message::Line(line)) => drop(out.write_all(&line)),
            Ok(Message::Flush(done)) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let missing = left_out.load(Ordering::Relaxed);
        if missing > said {
            let lines = missing - std::mem::replace(&mut said, missing);
            let _ = writeln!(out, "plgw: {lines} log lines were left out: nobody read standard error in time");
        }
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            sweep();
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
        let line = std::mem::take(&mut self.bytes);
        if let Err(TrySendError::Full(_)) = self.writer.queue.try_send(Message::Line(line)) {
            self.writer.left_out.fetch_add(1, Ordering::Relaxed);
        }
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
        let writer = LogWriter::start(Stuck(stuck, Arc::clone(&written)), || {}).expect("a thread");
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

//! The current step, on one line of a terminal that is overwritten.

use std::io::Write;

use crate::cli::table::Terminal;
use crate::quickstart::StartStep;

/// Goes to the line's start and clears it.
const CLEAR: &str = "\r\x1b[K";

/// One line on standard error; without effect if that is not a terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    terminal: Terminal,
}

impl Progress {
    pub(super) fn new(terminal: Terminal) -> Self {
        Self { terminal }
    }

    /// Shows the current step.
    pub(super) fn show(self, step: StartStep) {
        self.write(&format!("{CLEAR}{} …", step.label()));
    }

    /// Clears the line.
    pub(super) fn clear(self) {
        self.write(CLEAR);
    }

    fn write(self, text: &str) {
        if self.terminal.is_terminal() {
            let mut stderr = std::io::stderr().lock();
            // Write errors are ignored.
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        }
    }
}

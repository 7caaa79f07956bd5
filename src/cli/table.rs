//! Tables and text for terminals.
//!
//! Written by hand: `comfy-table` wraps or truncates cells of wide tables, while names and connection strings must stay
//! whole for copying, and it handles colours only with an additional terminal library or ANSI parser. `textwrap` leaves a first word that does not
//! fit beside `lead` on that line.

use std::io::{self, IsTerminal, Write};
use std::ops::Range;

/// Spaces between two columns.
const GAP: usize = 2;

/// Spaces before the continuation lines of a row.
const FOLD: usize = 4;

/// A table whose cells are never wrapped.
///
/// In a table that is wider than the terminal, the columns that do not fit follow on indented continuation lines of
/// each row. A cell that is wider than the terminal, such as an Azure id, gets its own line and does not widen its
/// column. Nothing is truncated, because people copy connection strings and names.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(headings: impl IntoIterator<Item = &'static str>) -> Self {
        Self { headings: headings.into_iter().collect(), rows: Vec::new() }
    }

    /// Adds a row with a cell for every heading.
    pub(crate) fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        debug_assert_eq!(cells.len(), self.headings.len(), "a cell for every heading");
        self.rows.push(cells);
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as text, each line indented by two spaces.
    pub(crate) fn render(&self, terminal: Terminal) -> String {
        let limit = terminal.width.unwrap_or(usize::MAX);
        let widths = self.widths(limit.saturating_sub(FOLD + GAP));
        let lines = lines(&widths, limit);
        let headings: Vec<String> = self.headings.iter().map(|heading| terminal.bold(heading)).collect();
        let mut text = String::new();
        for row in [&headings].into_iter().chain(&self.rows) {
            for (number, columns) in lines.iter().enumerate() {
                let mut end = if number == 0 { 0 } else { FOLD };
                let mut line = " ".repeat(end);
                // The first line of a row is printed even if it is empty.
                let mut is_needed = number == 0;
                for (column, width) in columns.clone().zip(&widths[columns.clone()]) {
                    let cell = &row[column];
                    let is_wide = shown_width(cell) > *width;
                    if is_wide && column > columns.start {
                        if is_needed {
                            text.push_str(line.trim_end());
                            text.push('\n');
                        }
                        line = " ".repeat(FOLD);
                    }
                    end += GAP + width;
                    line.push_str(&" ".repeat(GAP));
                    line.push_str(cell);
                    is_needed |= !cell.is_empty();
                    if is_wide {
                        text.push_str(&line);
                        text.push('\n');
                        line = " ".repeat(end);
                        is_needed = false;
                    } else {
                        line.push_str(&" ".repeat(width - shown_width(cell)));
                    }
                }
                if is_needed {
                    text.push_str(line.trim_end());
                    text.push('\n');
                }
            }
        }
        text
    }

    /// Whether every row takes one line. Always true without a terminal, as programs read lines.
    pub(crate) fn fits(&self, terminal: Terminal) -> bool {
        let total = self.widths(usize::MAX).iter().map(|width| width + GAP).sum::<usize>();
        terminal.width.is_none_or(|width| total <= width)
    }

    /// The width of each column: that of its widest cell of at most `most`, or of its heading.
    fn widths(&self, most: usize) -> Vec<usize> {
        let cells = |column: usize| {
            let shown = self.rows.iter().filter_map(move |row| row.get(column)).map(|cell| shown_width(cell));
            shown.filter(move |width| *width <= most)
        };
        let heading = |column: usize| self.headings[column].len();
        (0..self.headings.len()).map(|column| cells(column).chain([heading(column)]).max().unwrap_or(0)).collect()
    }
}

/// The columns on each line of a row: as many as fit into `limit`, at least one.
fn lines(widths: &[usize], limit: usize) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let (mut first, mut used) = (0, 0);
    for (column, width) in widths.iter().enumerate() {
        if column > first && used + GAP + width > limit {
            lines.push(first..column);
            (first, used) = (column, FOLD);
        }
        used += GAP + width;
    }
    lines.push(first..widths.len());
    lines
}

/// `text` after `lead`, wrapped between words at the terminal's width; further lines are indented by `indent`. A word that is wider than
/// a line is alone on it, whole.
pub(crate) fn wrapped(lead: &str, text: &str, indent: usize, terminal: Terminal) -> String {
    let width = terminal.width.unwrap_or(usize::MAX);
    let (mut lines, mut line, mut used) = (String::new(), lead.to_owned(), shown_width(lead));
    let mut gap = "";
    for word in text.split_whitespace() {
        if used + gap.len() + shown_width(word) > width && (!gap.is_empty() || used > indent) {
            lines.push_str(line.trim_end());
            lines.push('\n');
            (line, used, gap) = (" ".repeat(indent), indent, "");
        }
        line.push_str(gap);
        line.push_str(word);
        used += gap.len() + shown_width(word);
        gap = " ";
    }
    lines + line.trim_end() + "\n"
}

/// The width of `text` on a terminal: its characters without escape sequences. Names are ASCII.
fn shown_width(text: &str) -> usize {
    let mut width = 0;
    let mut escape = false;
    for c in text.chars() {
        match c {
            '\x1b' => escape = true,
            'm' if escape => escape = false,
            _ if escape => {}
            _ => width += 1,
        }
    }
    width
}

/// The capabilities of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// The terminal's columns; `None`: not a terminal.
    pub(crate) width: Option<usize>,
    /// The terminal's lines; `None`: not a terminal.
    pub(crate) height: Option<usize>,
    /// Whether to use bold and colours.
    pub(crate) colours: bool,
}

impl Terminal {
    /// The capabilities of standard output: colours on a terminal, unless `NO_COLOR` is set.
    pub(crate) fn of_stdout() -> Self {
        Self::of(&io::stdout())
    }

    /// The capabilities of standard error.
    pub(crate) fn of_stderr() -> Self {
        Self::of(&io::stderr())
    }

    fn of(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> Self {
        if !stream.is_terminal() {
            return Self::default();
        }
        let size = rustix::termios::tcgetwinsize(stream).ok();
        let known = |of: fn(rustix::termios::Winsize) -> u16| size.map(|size| usize::from(of(size))).filter(|n| *n > 0);
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: Some(known(|size| size.ws_col).unwrap_or(80)),
            height: Some(known(|size| size.ws_row).unwrap_or(24)),
            colours: !no_colour && !dumb,
        }
    }

    /// Whether it is a terminal.
    pub(crate) fn is_terminal(self) -> bool {
        self.width.is_some()
    }

    /// A heading.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// A good state.
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// A bad state.
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    /// A minor detail.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Writes `text` to standard output. A closed pipe (`| head`) is not an error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["TARGET", "PORT", "MEMBERS"]);
        table.row(["Cluster0/shard-00-00", "1024", "127.1.0.11:27017"]);
        table.row(["Sharded0/lb", "1027", ""]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_blanks_at_their_end() {
        let text = table().render(Terminal::default());
        assert_eq!(
            text,
            "  TARGET                PORT  MEMBERS\n  \
               Cluster0/shard-00-00  1024  127.1.0.11:27017\n  \
               Sharded0/lb           1027\n"
        );
    }

    #[test]
    fn columns_that_do_not_fit_stand_on_a_further_line_and_nothing_is_cut() {
        let terminal = Terminal { width: Some(40), ..Terminal::default() };
        let text = table().render(terminal);
        assert_eq!(
            text,
            "  TARGET                PORT\n      MEMBERS\n  \
               Cluster0/shard-00-00  1024\n      127.1.0.11:27017\n  \
               Sharded0/lb           1027\n"
        );
        assert!(table().render(Terminal { width: Some(10), ..terminal }).contains("Cluster0/shard-00-00\n"));
    }

    #[test]
    fn a_cell_wider_than_the_terminal_stands_alone_and_moves_no_column_of_other_rows() {
        let mut table = table();
        table.row(["/subscriptions/0b1f6471-1bf0/privateEndpoints/atlas", "1024", ""]);
        table.row(["/subscriptions/0b1f6471-1bf0/privateEndpoints/other", "", "10.0.0.4:27017"]);
        table.row(["Sharded0/lb", "1028", "/subscriptions/0b1f6471-1bf0/privateEndpoints/third"]);
        assert_eq!(
            table.render(Terminal { width: Some(50), ..Terminal::default() }),
            "  TARGET                PORT  MEMBERS\n  \
               Cluster0/shard-00-00  1024  127.1.0.11:27017\n  \
               Sharded0/lb           1027\n  \
               /subscriptions/0b1f6471-1bf0/privateEndpoints/atlas\n                        1024\n  \
               /subscriptions/0b1f6471-1bf0/privateEndpoints/other\n                              10.0.0.4:27017\n  \
               Sharded0/lb           1028\n      /subscriptions/0b1f6471-1bf0/privateEndpoints/third\n"
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let terminal = Terminal { width: Some(200), colours: true, ..Terminal::default() };
        let mut coloured = Table::new(["HEALTH", "PORT"]);
        coloured.row([terminal.green("healthy"), "1024".to_owned()]);
        let text = coloured.render(terminal);
        assert!(text.contains("\x1b[32mhealthy\x1b[0m  1024"), "{text:?}");
    }
}

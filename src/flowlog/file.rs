//! A log file with rotation by size: `flow.log`, `flow.log.1`, `flow.log.2` …

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::files;

/// Longer than a header with all fields.
const MAX_HEADER_LENGTH: u64 = 64 << 10;

/// A file of lines that is rotated at `most` bytes.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    most: u64,
    keep: usize,
    /// The first line of every file; empty: none.
    header: String,
    file: BufWriter<File>,
    written: u64,
}

impl RotatingFile {
    /// Opens `path` for appending, creating its directory.
    pub(super) fn open(path: &Path, most: u64, keep: usize, header: String) -> io::Result<Self> {
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)?;
        }
        let (file, written) = append(path)?;
        let mut opened = Self { path: path.to_path_buf(), most, keep, header, file, written };
        // Do not append lines to a file whose header names other fields.
        if written > 0 && first_line(path)? != opened.header.as_bytes() && !opened.header.is_empty() {
            opened.rotate()?;
        }
        opened.begin()?;
        Ok(opened)
    }

    /// Writes a line.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        let bytes = line.len() as u64 + 1;
        let holds_lines = self.written > self.header.len() as u64 + 1;
        if self.written + bytes > self.most && holds_lines {
            self.rotate()?;
        }
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.written += bytes;
        Ok(())
    }

    /// Flushes buffered lines to the kernel.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Rotates the file. Older files beyond `keep` are removed.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        for n in (1..self.keep).rev() {
            rename(&self.aside(n), &self.aside(n + 1))?;
        }
        if self.keep == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            rename(&self.path, &self.aside(1))?;
        }
        (self.file, self.written) = append(&self.path)?;
        self.begin()
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.written == 0 && !self.header.is_empty() {
            writeln!(self.file, "{}", self.header)?;
            self.written = self.header.len() as u64 + 1;
        }
        Ok(())
    }

    fn aside(&self, n: usize) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        name.into()
    }
}

fn append(path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let file = files::append(path, files::LOG)?;
    let written = file.metadata()?.len();
    Ok((BufWriter::new(file), written))
}

/// The first line without its newline, up to [`MAX_HEADER_LENGTH`].
fn first_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?.take(MAX_HEADER_LENGTH)).read_until(b'\n', &mut line)?;
    line.pop_if(|last| *last == b'\n');
    Ok(line)
}

/// Renames a file if it exists.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_rotated_and_the_oldest_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("logs/flow.log");
        let mut file = RotatingFile::open(&path, 30, 2, "a header".to_owned()).expect("opened");
        for n in 0..8 {
            file.line(&format!("line number {n}")).expect("written");
        }
        file.flush().expect("flushed");
        let text = |name: &str| std::fs::read_to_string(directory.path().join("logs").join(name));
        assert_eq!(text("flow.log").expect("there"), "a header\nline number 7\n");
        assert_eq!(text("flow.log.1").expect("there"), "a header\nline number 6\n");
        assert_eq!(text("flow.log.2").expect("there"), "a header\nline number 5\n");
        text("flow.log.3").expect_err("only two are kept");
    }

    #[test]
    fn lines_of_another_format_start_another_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("flow.log");
        for header in ["a header", "a header", "another"] {
            let mut file = RotatingFile::open(&path, 1000, 2, header.to_owned()).expect("opened");
            file.line(&format!("below {header}")).expect("written");
            file.flush().expect("flushed");
        }
        let text = |name: &str| std::fs::read_to_string(directory.path().join(name)).expect("there");
        assert_eq!(text("flow.log"), "another\nbelow another\n");
        assert_eq!(text("flow.log.1"), "a header\nbelow a header\nbelow a header\n");
    }

    #[test]
    fn an_existing_file_is_appended_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("flow.log");
        for n in 0..2 {
            let mut file = RotatingFile::open(&path, 1000, 2, "a header".to_owned()).expect("opened");
            file.line(&format!("line {n}")).expect("written");
            file.flush().expect("flushed");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "a header\nline 0\nline 1\n");
    }
}

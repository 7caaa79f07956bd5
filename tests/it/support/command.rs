//! The built binary, run as a user would.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{self, Command, Output, Stdio};

/// `plgw` with these arguments, as a user without any of the environment's settings would run it.
pub(crate) fn plgw<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plgw"));
    command.args(arguments).stdin(Stdio::null()).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    for variable in ["RUST_LOG", "LOG_FORMAT", "NO_COLOR", "COLUMNS", "LINES"] {
        command.env_remove(variable);
    }
    command
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Runs `plgw` to its end.
    pub(crate) fn of(arguments: &[&str]) -> Self {
        Self::from(plgw(arguments).output().expect("the binary runs"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// A process that ends with its test, however that ends.
pub(crate) struct Child(pub(crate) process::Child);

impl Child {
    /// Starts it.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self(command.spawn().expect("the binary runs"))
    }

    /// Waits until it ends by itself, and returns its result.
    pub(crate) fn ran(mut self) -> Ran {
        let mut text = [String::new(), String::new()];
        let pipes: [Option<Box<dyn Read>>; 2] = [
            self.0.stdout.take().map(|pipe| Box::new(pipe) as _),
            self.0.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for (pipe, text) in pipes.into_iter().zip(&mut text) {
            if let Some(mut pipe) = pipe {
                pipe.read_to_string(text).expect("UTF-8");
            }
        }
        let [out, err] = text;
        Ran { code: self.0.wait().expect("it ends").code(), out, err }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Gone already, where the test went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ten networks of loopback in a row that one test's quickstart has to itself.
pub(crate) struct Shift {
    n: u8,
    /// Keeps the networks this test's own, among all processes of the machine; see `Net`.
    _claims: Vec<TcpListener>,
}

impl Shift {
    /// A shift with free networks, from the top, as `Net` claims from below.
    pub(crate) fn claim() -> Self {
        (4..=24)
            .rev()
            .map(|tens| tens * 10)
            .find_map(|n| {
                let claim = |octet| TcpListener::bind((Ipv4Addr::new(127, octet, 255, 254), super::net::CLAIM_PORT));
                let claims = (n..n + 10).map(claim).collect::<Result<Vec<_>, _>>().ok()?;
                Some(Self { n, _claims: claims })
            })
            .expect("fewer than 20 quickstarts run at once")
    }

    /// The flag's value.
    pub(crate) fn text(&self) -> String {
        self.n.to_string()
    }

    /// An address of the quickstart: `ip(0, 0, 1)` is 127.0.0.1, moved.
    pub(crate) fn ip(&self, second: u8, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.n + second, third, fourth)
    }
}

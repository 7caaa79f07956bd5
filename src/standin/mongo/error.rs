//! Command errors as a server returns them: code, code name, message.

use bson::{Document, doc};

/// Why a command failed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CommandError {
    code: i32,
    name: &'static str,
    message: String,
    /// Additional fields of errors with this code.
    extra: Option<Box<Document>>,
}

pub(super) type CommandResult = Result<Document, CommandError>;

impl CommandError {
    pub(super) fn new(code: i32, name: &'static str, message: impl Into<String>) -> Self {
        Self { code, name, message: message.into(), extra: None }
    }

    /// `BadValue`: an invalid value or an unknown operator.
    pub(super) fn bad_value(message: impl Into<String>) -> Self {
        Self::new(2, "BadValue", message)
    }

    pub(super) fn failed_to_parse(message: impl Into<String>) -> Self {
        Self::new(9, "FailedToParse", message)
    }

    pub(super) fn type_mismatch(message: impl Into<String>) -> Self {
        Self::new(14, "TypeMismatch", message)
    }

    /// A command, operator, stage or option of MongoDB that the stand-in does not support.
    pub(super) fn unsupported(what: &str) -> Self {
        let name = crate::standin::NAME;
        let message = format!("the {name} has no {what}; docs/real-servers.md puts a real server in its place");
        Self::new(59, "CommandNotFound", message)
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn with(mut self, extra: Document) -> Self {
        self.extra = Some(Box::new(extra));
        self
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> i32 {
        self.code
    }

    /// The reply of a command that failed.
    pub(super) fn reply(self) -> Document {
        let mut reply = doc! { "ok": 0.0, "errmsg": self.message, "code": self.code, "codeName": self.name };
        reply.extend(self.extra.map(|extra| *extra).unwrap_or_default());
        reply
    }

    /// The entry in `writeErrors` of the write at `index` of a command.
    pub(super) fn write_error(self, index: usize) -> Document {
        let mut entry = doc! { "index": index as i32, "code": self.code, "errmsg": self.message };
        entry.extend(self.extra.map(|extra| *extra).unwrap_or_default());
        entry
    }
}

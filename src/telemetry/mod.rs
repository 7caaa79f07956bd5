//! What the process says of itself: metrics, the HTTP page that hands them out, logs.

mod exporter;
mod log_writer;
mod logs;
mod process;
mod registry;

pub use exporter::{Exporter, SourceFilter, Status, StatusFn};
pub use logs::{LogError, LogFormat, LogHandle, LogSettings};
pub use registry::{CONTENT_TYPE, Metric, Registry};

//! Telemetry: metrics, the HTTP pages that expose them, logs.

mod buckets;
mod logs;
mod metrics;
mod pages;
mod process;
mod registry;

pub use logs::{LogError, LogFormat, LogHandle, LogSettings};
pub(crate) use metrics::count_lines;
pub use pages::{PageStatus, Pages, SourceFilter, StatusFn};
pub use registry::{CONTENT_TYPE, Registry};

//! What the process reports of itself: metrics, the pages that show them, logs.

mod buckets;
mod logs;
mod metrics;
mod pages;
mod process;
mod registry;

pub use logs::{LogError, LogFormat, LogHandle, LogSettings};
pub(crate) use metrics::count_lines;
pub use pages::{Pages, SourceFilter, Status, StatusFn};
pub use registry::{CONTENT_TYPE, Registry};

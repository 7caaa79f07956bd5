//! What the process says of itself: metrics, the HTTP page that hands them out, logs.

mod buckets;
mod exporter;
mod log_writer;
mod logs;
mod metrics;
mod process;
mod registry;
mod repeats;
mod series;

pub use exporter::{Exporter, SourceFilter, Status, StatusFn};
pub use logs::{LogError, LogFormat, LogHandle, LogSettings};
pub(crate) use metrics::count_lines;
pub use registry::{CONTENT_TYPE, Metric, Registry};
pub use repeats::LineLimit;

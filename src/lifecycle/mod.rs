//! The process's life: binding its ports, being ready, signals, the phases of a stop.

mod bind;
mod phase;
mod readiness;
mod signals;

pub use bind::{BindError, BindProblem, bind_tcp, bind_udp};
pub use phase::{Phase, Phases};
pub use readiness::{Condition, ConditionView, Readiness, ReadinessView};
pub use signals::{SignalEvent, Signals};

//! The process lifecycle: binding ports, readiness, signals, alarms, the phases of a stop, and service manager
//! notifications.

mod alarm;
mod bind;
mod command;
mod manager;
mod phase;
mod readiness;
mod signals;
mod socket_owner;

pub use alarm::{Alarm, Losses};
pub use bind::{BindError, BindProblem, bind_tcp, bind_udp};
pub use command::{exit_code, run_command};
pub use manager::{STILL_STOPPING, ServiceManager};
pub use phase::Phase;
pub use readiness::{Condition, ConditionView, Readiness, ReadinessView};
pub use signals::{SignalEvent, Signals};

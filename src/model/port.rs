//! Ports, distinguished by the side of the load balancer.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ParseTextError;
use super::text::{text_schema, text_serde};

/// The error that `text`, as shown in the message, is not a port.
pub(crate) fn not_a_port(text: impl fmt::Display) -> ParseTextError {
    ParseTextError::new(format!("{text} is not a port (1 to 65535)"))
}

macro_rules! port {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(inline)]
        pub struct $name(NonZeroU16);

        impl $name {
            /// The port as a number.
            #[must_use]
            pub fn get(self) -> u16 {
                self.0.get()
            }
        }

        impl TryFrom<u16> for $name {
            type Error = ParseTextError;

            fn try_from(number: u16) -> Result<Self, ParseTextError> {
                NonZeroU16::new(number).map(Self).ok_or_else(|| not_a_port(number))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

port!(
    /// A port of the load balancer, to which clients connect.
    ListenerPort
);
port!(
    /// A port of a `mongod` or `mongos` behind the load balancer.
    TargetPort
);

/// Ports from `first` to `last`, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: ListenerPort,
    last: ListenerPort,
}

impl PortRange {
    /// The range that Atlas uses: 1024 to 65535.
    ///
    /// # Panics
    ///
    /// Never: both ends are constants above zero.
    #[must_use]
    pub fn atlas() -> Self {
        Self::new(1024, 65535).expect("1024 to 65535 is a range")
    }

    /// The range from `first` to `last`; `None` when it is empty or starts at 0.
    #[must_use]
    pub fn new(first: u16, last: u16) -> Option<Self> {
        if first > last {
            return None;
        }
        Some(Self { first: ListenerPort::try_from(first).ok()?, last: ListenerPort::try_from(last).ok()? })
    }

    /// The lowest port.
    #[must_use]
    pub fn first(self) -> ListenerPort {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub fn last(self) -> ListenerPort {
        self.last
    }

    /// Whether `port` is in the range.
    #[must_use]
    pub fn contains(self, port: ListenerPort) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// The number of ports.
    #[must_use]
    pub fn size(self) -> usize {
        usize::from(self.last.get() - self.first.get()) + 1
    }

    /// Every port, lowest first.
    pub fn ports(self) -> impl Iterator<Item = ListenerPort> {
        (self.first.get()..=self.last.get()).filter_map(|port| ListenerPort::try_from(port).ok())
    }
}

impl FromStr for PortRange {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u16>().ok();
        number(first)
            .zip(number(last))
            .and_then(|(first, last)| Self::new(first, last))
            .ok_or_else(|| ParseTextError::not(text, "a range of ports; write FIRST-LAST, as `1024-65535`"))
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

text_serde!(PortRange);
text_schema!(PortRange);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_counts_both_of_its_ends() {
        let range: PortRange = "1024-1026".parse().expect("a range");
        assert_eq!(range.size(), 3);
        assert_eq!(range.ports().map(ListenerPort::get).collect::<Vec<_>>(), [1024, 1025, 1026]);
        assert!("0-5".parse::<PortRange>().is_err());
        assert!("9-5".parse::<PortRange>().is_err());
    }
}

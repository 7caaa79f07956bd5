//! A sample's figures as one line of JSON.

use std::fmt;

use crate::histogram::Histogram;

/// Names and figures, in order.
#[derive(Default)]
pub(crate) struct Report(Vec<(&'static str, f64)>);

impl Report {
    pub(crate) fn put(&mut self, name: &'static str, figure: f64) {
        self.0.push((name, figure));
    }

    /// Quantiles in microseconds.
    pub(crate) fn put_latency(&mut self, latency: &Histogram) {
        self.put("p50_us", latency.quantile(0.50));
        self.put("p99_us", latency.quantile(0.99));
        self.put("p999_us", latency.quantile(0.999));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, figure)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}\"{name}\": {figure}")?;
        }
        f.write_str("}")
    }
}

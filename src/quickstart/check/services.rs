//! Checks of the gateway's own pages, after flows were made.

use std::sync::Arc;

use super::super::client::http::get;
use super::super::unhealthy;
use super::{Bench, Outcome};
use crate::model::Refusal;
use crate::plan::Gate;

/// Every target passed its health checks.
pub(super) async fn targets(bench: Arc<Bench>) -> Outcome {
    let bad = unhealthy(&bench.snapshot);
    if bad.is_empty() {
        return Ok(format!("{} targets are healthy", bench.snapshot.targets.len()));
    }
    Err(bad.join("; "))
}

/// `/metrics` counts the flows that were just made, and the connections that were just refused.
pub(super) async fn metrics(bench: Arc<Bench>) -> Outcome {
    let page = page(&bench, "/metrics").await?;
    for target in &bench.snapshot.targets {
        let label = format!("target=\"{}\"", target.id);
        let opened = sum(&page, "plgw_flows_opened_total", &label);
        let bytes = sum(&page, "plgw_processed_bytes_total", &label);
        if opened < 1.0 || bytes < 1.0 {
            return Err(format!(
                "{} has {opened} flows and {bytes} bytes on the page, after flows through it",
                target.id
            ));
        }
    }
    let all = bench.snapshot.listeners.len();
    let private = bench.snapshot.listeners.values().filter(|of| matches!(of.gate, Gate::Endpoint(_))).count();
    for (reason, tried) in [(Refusal::OneWay, all), (Refusal::Origin, private), (Refusal::AccessList, all - private)] {
        let refused = sum(&page, "plgw_refused_flows_total", &format!("reason=\"{}\"", reason.label()));
        if refused < tried as f64 {
            return Err(format!("{refused} refusals of reason {} on the page, expected {tried}", reason.label()));
        }
    }
    let queries = sum(&page, "plgw_dns_queries_total", "");
    if !bench.dns.is_empty() && queries < 1.0 {
        return Err("no DNS query is on the page, after several".to_owned());
    }
    Ok("flows, bytes, refusals and DNS queries of this check are counted".to_owned())
}

/// The gateway says that it is well and ready.
pub(super) async fn ready(bench: Arc<Bench>) -> Outcome {
    page(&bench, "/healthz").await?;
    page(&bench, "/readyz").await?;
    Ok("/healthz and /readyz answer 200".to_owned())
}

async fn page(bench: &Bench, path: &str) -> Result<String, String> {
    let server = bench.metrics.ok_or("no metrics are served")?;
    match get(None, server, path).await {
        Ok((200, body)) => Ok(body),
        Ok((status, body)) => Err(format!("http://{server}{path} answers {status}: {body}")),
        Err(error) => Err(format!("http://{server}{path}: {error}")),
    }
}

/// The sum of the series whose name begins with `name` and that have `label`.
fn sum(page: &str, name: &str, label: &str) -> f64 {
    let series = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let page = "# TYPE a_total counter\na_total{t=\"x\"} 2\na_total{t=\"x\",z=\"b\"} 3\na_total{t=\"y\"} 5\nb 7\n";
        assert!((sum(page, "a_total", "t=\"x\"") - 5.0).abs() < f64::EPSILON);
        assert!(sum(page, "c", "").abs() < f64::EPSILON);
    }
}

//! Checks of the gateway's own services, after the flows.

use std::sync::Arc;

use super::super::client::http::get;
use super::super::unhealthy;
use super::{CheckContext, CheckResult};
use crate::model::Refusal;
use crate::plan::ListenerAccess;

/// Every target passed its health checks.
pub(super) async fn targets(context: Arc<CheckContext>) -> CheckResult {
    let bad = unhealthy(&context.snapshot);
    if bad.is_empty() {
        return Ok(format!("{} targets are healthy", context.snapshot.targets.len()));
    }
    Err(bad.join("; "))
}

/// `/metrics` counts the flows and the refused connections of the other checks.
pub(super) async fn metrics(context: Arc<CheckContext>) -> CheckResult {
    let page = page(&context, "/metrics").await?;
    for target in &context.snapshot.targets {
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
    let all = context.snapshot.listeners.len();
    let private =
        context.snapshot.listeners.values().filter(|of| matches!(of.access, ListenerAccess::Endpoint(_))).count();
    for (reason, tried) in [(Refusal::OneWay, all), (Refusal::Origin, private), (Refusal::AccessList, all - private)] {
        let refused = sum(&page, "plgw_refused_flows_total", &format!("reason=\"{}\"", reason.label()));
        if refused < tried as f64 {
            return Err(format!("{refused} refusals of reason {} on the page, expected {tried}", reason.label()));
        }
    }
    let listeners = context.snapshot.apps.listeners.len();
    let refused = sum(&page, "plgw_app_refused_connections_total", &format!("reason=\"{}\"", Refusal::OneWay.label()));
    if refused < listeners as f64 {
        return Err(format!(
            "{refused} one-way refusals of the App Services front end on the page, expected {listeners}"
        ));
    }
    let requests = sum(&page, "plgw_app_requests_total", "");
    if listeners > 0 && requests < 1.0 {
        return Err("no App Services request is on the page, after several".to_owned());
    }
    let queries = sum(&page, "plgw_dns_queries_total", "");
    if !context.dns.is_empty() && queries < 1.0 {
        return Err("no DNS query is on the page, after several".to_owned());
    }
    Ok("flows, bytes, requests, refusals and DNS queries of this check are counted".to_owned())
}

/// The gateway reports that it is healthy and ready.
pub(super) async fn ready(context: Arc<CheckContext>) -> CheckResult {
    page(&context, "/healthz").await?;
    page(&context, "/readyz").await?;
    Ok("/healthz and /readyz answer 200".to_owned())
}

async fn page(context: &CheckContext, path: &str) -> Result<String, String> {
    let server = context.metrics.ok_or("no metrics are served")?;
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

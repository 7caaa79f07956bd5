//! DNS metrics. Handles are created once, so a query costs an atomic add and no look-up.

use metrics::{Counter, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};

use super::forward::ForwardOutcome;
use super::{QueryType, Rcode, ViewKind};
use crate::model::DnsFailure;

const QUERIES: &str = "plgw_dns_queries_total";
const DURATION: &str = "plgw_dns_answer_duration_seconds";
const MALFORMED: &str = "plgw_dns_malformed_packets_total";
const FORWARDED: &str = "plgw_dns_forwarded_total";
const FAILED: &str = "plgw_dns_faulted_questions_total";
const FAILURES: [(DnsFailure, &str); 4] = [
    (DnsFailure::Servfail, "servfail"),
    (DnsFailure::Nxdomain, "nxdomain"),
    (DnsFailure::Refused, "refused"),
    (DnsFailure::Timeout, "timeout"),
];

/// DNS's counters.
#[derive(Debug)]
pub struct DnsMetrics {
    /// By view, type and code; types with the same label share a counter.
    queries: Vec<Counter>,
    /// Time from a question's arrival to its answer.
    pub(super) duration: Histogram,
    /// Messages without exactly one question, and unparsable messages over TCP. The library does not report unparsable
    /// UDP messages.
    pub(super) malformed: Counter,
    forwarded: [Counter; ForwardOutcome::ALL.len()],
    failed: [Counter; FAILURES.len()],
}

impl DnsMetrics {
    /// Creates the handles in `recorder`.
    #[must_use]
    pub fn new(recorder: &dyn Recorder) -> Self {
        let count = Some(Unit::Count);
        let describe = |name: &'static str, text: &'static str| {
            recorder.describe_counter(KeyName::from_const_str(name), count, text.into());
        };
        describe(QUERIES, "Answers, by view, type of record and response code.");
        describe(MALFORMED, "Messages without exactly one question, and messages over TCP that cannot be parsed.");
        describe(FORWARDED, "Questions forwarded to upstream resolvers, by outcome.");
        describe(FAILED, "Questions affected by a fault, by the answer that it sets.");
        recorder.describe_histogram(
            KeyName::from_const_str(DURATION),
            Some(Unit::Seconds),
            "Time from a question's arrival to its answer, upstream resolvers included.".into(),
        );

        let metadata = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));
        let counter = |name: &'static str, labels: Vec<Label>| {
            recorder.register_counter(&Key::from_parts(name, labels), &metadata)
        };
        let mut queries = Vec::with_capacity(ViewKind::ALL.len() * QueryType::ALL.len() * Rcode::ALL.len());
        for view in ViewKind::ALL {
            for kind in QueryType::ALL {
                for code in Rcode::ALL {
                    let labels = vec![
                        Label::from_static_parts("view", view.label()),
                        Label::from_static_parts("type", kind.label()),
                        Label::from_static_parts("rcode", code.label()),
                    ];
                    let counter = if can_occur(view, kind, code) { counter(QUERIES, labels) } else { Counter::noop() };
                    queries.push(counter);
                }
            }
        }
        Self {
            queries,
            duration: recorder.register_histogram(&Key::from_static_name(DURATION), &metadata),
            malformed: counter(MALFORMED, Vec::new()),
            forwarded: ForwardOutcome::ALL
                .map(|outcome| counter(FORWARDED, vec![Label::from_static_parts("outcome", outcome.label())])),
            failed: FAILURES.map(|(_, label)| counter(FAILED, vec![Label::from_static_parts("answer", label)])),
        }
    }

    /// Counts one answer.
    pub(super) fn answered(&self, view: ViewKind, kind: QueryType, code: Rcode) {
        debug_assert!(can_occur(view, kind, code), "{view:?} {kind:?} {code:?} has no counter");
        let index = (view as usize * QueryType::ALL.len() + kind as usize) * Rcode::ALL.len() + code as usize;
        self.queries[index].increment(1);
    }

    /// Counts one question that a fault affected.
    pub(super) fn failed(&self, failure: DnsFailure) {
        let counters = FAILURES.iter().zip(&self.failed).filter(|((of, _), _)| *of == failure);
        counters.for_each(|(_, counter)| counter.increment(1));
    }

    /// Counts one forwarded question.
    pub(super) fn forwarded(&self, outcome: ForwardOutcome) {
        self.forwarded[outcome as usize].increment(1);
    }
}

/// Whether such an answer can occur. Other series are not created.
fn can_occur(view: ViewKind, kind: QueryType, code: Rcode) -> bool {
    match code {
        // Returned before the question is known, so without view and type.
        Rcode::FormErr | Rcode::NotImp => view == ViewKind::None && kind == QueryType::Other,
        Rcode::BadVers => view == ViewKind::None,
        Rcode::Refused => true,
        Rcode::NoError | Rcode::ServFail | Rcode::NxDomain => view != ViewKind::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Registry;

    #[test]
    fn every_answer_is_counted_under_its_own_labels() {
        let registry = Registry::new();
        let metrics = DnsMetrics::new(registry.recorder());
        for view in ViewKind::ALL {
            for kind in QueryType::ALL {
                for code in Rcode::ALL.into_iter().filter(|&code| can_occur(view, kind, code)) {
                    metrics.answered(view, kind, code);
                }
            }
        }
        metrics.forwarded(ForwardOutcome::Timeout);
        let page = registry.render();
        let has = |line: &str| assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        has(r#"plgw_dns_queries_total{view="vpc",type="srv",rcode="noerror"} 1"#);
        has(r#"plgw_dns_queries_total{view="public",type="other",rcode="nxdomain"} 2"#);
        has(r#"plgw_dns_queries_total{view="none",type="other",rcode="formerr"} 1"#);
        has(r#"plgw_dns_forwarded_total{outcome="timeout"} 1"#);
        has(r#"plgw_dns_forwarded_total{outcome="answered"} 0"#);
        has("plgw_dns_malformed_packets_total 0");
        assert!(!page.contains(r#"view="none",type="a",rcode="noerror""#), "{page}");
    }
}

//! Whether the gateway can do its work, as named conditions: `/readyz` shows each with its detail.

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

/// The conditions of one gateway. Clones share them.
///
/// Ready when every condition is; without any, nothing has started yet and it isn't.
#[derive(Debug, Clone)]
pub struct Readiness {
    view: watch::Sender<ReadinessView>,
}

/// What is ready at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReadinessView {
    /// Every condition is.
    pub ready: bool,
    /// The conditions, in the order in which they were added.
    pub conditions: Vec<ConditionView>,
}

/// One condition at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConditionView {
    /// Its name: `listeners`, `dns`, `config`.
    pub name: &'static str,
    /// Whether it holds.
    pub ready: bool,
    /// Why, in words for people.
    pub detail: String,
}

/// A condition in the hands of the room that knows it.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    view: watch::Sender<ReadinessView>,
}

impl Readiness {
    /// No condition yet, so not ready.
    #[must_use]
    pub fn new() -> Self {
        Self { view: watch::Sender::new(ReadinessView::default()) }
    }

    /// The condition `name`; a new one does not hold yet.
    #[must_use]
    pub fn condition(&self, name: &'static str) -> Condition {
        self.view.send_if_modified(|view| {
            let new = view.conditions.iter().all(|condition| condition.name != name);
            if new {
                view.conditions.push(ConditionView { name, ready: false, detail: "starting".to_owned() });
                view.ready = false;
            }
            new
        });
        Condition { name, view: self.view.clone() }
    }

    /// What is ready now.
    #[must_use]
    pub fn view(&self) -> ReadinessView {
        self.view.borrow().clone()
    }
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Condition {
    /// It holds; `detail` says so in words for people: `12 listeners are open`.
    pub fn set_ready(&self, detail: impl Into<String>) {
        self.set(true, detail.into());
    }

    /// It doesn't hold; `detail` says why.
    pub fn set_not_ready(&self, detail: impl Into<String>) {
        self.set(false, detail.into());
    }

    fn set(&self, ready: bool, detail: String) {
        self.view.send_if_modified(|view| {
            let Some(own) = view.conditions.iter_mut().find(|condition| condition.name == self.name) else {
                return false;
            };
            let changed = own.ready != ready || own.detail != detail;
            if own.ready != ready {
                tracing::info!(condition = self.name, ready, detail, "readiness: condition changed");
            }
            (own.ready, own.detail) = (ready, detail);
            view.ready = view.conditions.iter().all(|condition| condition.ready);
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_ready_when_every_condition_is() {
        let readiness = Readiness::new();
        assert!(!readiness.view().ready, "nothing has started");
        let (listeners, dns) = (readiness.condition("listeners"), readiness.condition("dns"));
        listeners.set_ready("12 listeners are open");
        assert!(!readiness.view().ready);
        dns.set_ready("answers on 127.0.0.1:5335");
        assert!(readiness.view().ready);
        dns.set_not_ready("the socket failed");
        assert_eq!(
            serde_json::to_value(readiness.view()).unwrap(),
            serde_json::json!({ "ready": false, "conditions": [
                { "name": "listeners", "ready": true, "detail": "12 listeners are open" },
                { "name": "dns", "ready": false, "detail": "the socket failed" },
            ]})
        );
    }

    #[test]
    fn a_condition_that_is_added_late_makes_it_wait_again() {
        let readiness = Readiness::new();
        readiness.condition("config").set_ready("");
        assert!(readiness.view().ready);
        let _late = readiness.condition("dns");
        assert!(!readiness.view().ready);
    }
}

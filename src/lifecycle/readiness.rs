//! Readiness as a set of named conditions, which `/readyz` shows with their details.

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

/// The conditions of one gateway. Clones share them.
///
/// Ready when every condition holds; not ready without any condition, as nothing has started yet.
#[derive(Debug, Clone)]
pub struct Readiness {
    view: watch::Sender<ReadinessView>,
}

/// A snapshot of the readiness.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReadinessView {
    /// Whether every condition holds.
    pub ready: bool,
    /// The conditions in the order of their registration.
    pub conditions: Vec<ConditionView>,
}

/// A snapshot of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ConditionView {
    /// Its name: `listeners`, `dns`, `config`.
    pub name: &'static str,
    /// Whether it holds.
    pub ready: bool,
    /// The reason as text.
    pub detail: String,
}

/// A handle to a condition, for the module that sets it.
#[derive(Debug, Clone)]
pub struct Condition {
    name: &'static str,
    view: watch::Sender<ReadinessView>,
}

impl Readiness {
    /// Readiness without conditions: not ready.
    #[must_use]
    pub fn new() -> Self {
        Self { view: watch::Sender::new(ReadinessView::default()) }
    }

    /// Returns the condition `name`, registering it as not ready if it is new.
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

    /// The current state.
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
    /// Marks the condition as holding, with a reason such as `12 listeners are open`.
    pub fn set_ready(&self, detail: impl Into<String>) {
        self.set(true, detail.into());
    }

    /// Marks the condition as not holding, with the reason.
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
    fn a_condition_that_is_registered_later_makes_it_not_ready() {
        let readiness = Readiness::new();
        readiness.condition("config").set_ready("");
        assert!(readiness.view().ready);
        let _late = readiness.condition("dns");
        assert!(!readiness.view().ready);
    }
}

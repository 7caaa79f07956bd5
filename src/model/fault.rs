//! Injected faults: kind, scope, and the share of affected flows.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{HumanDuration, TargetId, VpceId, VpceServiceId, Zone, rename_former_time};

/// A fault. As JSON it has the keys of the config's `[[fault]]`, all in one object, with times as `"100ms"`.
///
/// Keys of earlier versions are accepted too, as saved state has them: see [`rename_former_fault_keys`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Fault {
    /// Its name in commands, metrics and the flow list; if empty, it is generated from the kind.
    #[serde(default)]
    pub name: String,
    /// The kind of fault.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// The scope.
    #[serde(flatten)]
    pub scope: FaultScope,
    /// The share of affected flows (for DNS failures: questions) in the scope.
    #[serde(default)]
    pub share: Share,
    /// The seed for choosing the affected flows and the jitter: with the same seed the n-th flow is treated in the same
    /// way in every run.
    #[serde(default)]
    pub seed: u64,
    /// The delay from setting it to its begin.
    #[serde(default, with = "duration")]
    #[schemars(with = "HumanDuration")]
    pub after: Duration,
    /// Its duration; `None`: until it is cleared.
    #[serde(default, rename = "for", with = "optional_duration", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<HumanDuration>")]
    pub lasts: Option<Duration>,
}

/// The kind of fault. Those of the first group are chosen when a flow starts, and do not affect open flows.
///
/// Kinds without fields have braces: serde's `deny_unknown_fields` does not cover unit variants of an internally tagged
/// enum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FaultKind {
    /// Bytes are delayed.
    Latency {
        /// The delay.
        #[serde(with = "duration")]
        #[schemars(with = "HumanDuration")]
        delay: Duration,
        /// Maximum deviation from it.
        #[serde(default, with = "duration")]
        #[schemars(with = "HumanDuration")]
        jitter: Duration,
        /// The direction.
        #[serde(default)]
        direction: FaultDirection,
    },
    /// The bandwidth of each flow and direction is limited.
    Bandwidth {
        /// The limit.
        bytes_per_second: u64,
        /// The direction.
        #[serde(default)]
        direction: FaultDirection,
    },
    /// Both sides are reset after a number of bytes (both directions together) or a time.
    Reset {
        /// The number of bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        /// The time.
        #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<HumanDuration>")]
        time: Option<Duration>,
    },
    /// Nothing is answered; for all flows of a port not even the SYN.
    BlackHole {},
    /// The connection is reset at once; for all flows of a port, the port refuses.
    Refuse {},
    /// The target's side ends after a while, without a FIN or RST to the client: what it sends is accepted and lost.
    HalfOpen {
        /// The time.
        #[serde(with = "duration")]
        #[schemars(with = "HumanDuration")]
        time: Duration,
    },
    /// A side's FIN is forwarded late.
    SlowClose {
        /// The delay.
        #[serde(with = "duration")]
        #[schemars(with = "HumanDuration")]
        delay: Duration,
    },
    /// A zone is lost: its addresses do not answer and are removed from DNS, its targets can't be reached, and flows
    /// through either are frozen until the fault ends.
    ZoneOutage {},
    /// Targets are down: they refuse and their flows are reset, or they are silent.
    TargetDown {
        /// Whether packets are lost, as when a host is gone; otherwise refused, as when a process is.
        #[serde(default)]
        silent: bool,
    },
    /// The target is moved to another port, once or repeatedly.
    PortMove {
        /// The time between two moves.
        #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<HumanDuration>")]
        every: Option<Duration>,
    },
    /// The resolver fails.
    DnsFailure {
        /// The response.
        answer: DnsFailure,
    },
}

impl FaultKind {
    /// The name in configs, logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Bandwidth { .. } => "bandwidth",
            Self::Reset { .. } => "reset",
            Self::BlackHole {} => "black-hole",
            Self::Refuse {} => "refuse",
            Self::HalfOpen { .. } => "half-open",
            Self::SlowClose { .. } => "slow-close",
            Self::ZoneOutage {} => "zone-outage",
            Self::TargetDown { .. } => "target-down",
            Self::PortMove { .. } => "port-move",
            Self::DnsFailure { .. } => "dns-failure",
        }
    }

    /// Whether it isolates members of a replica set from each other, so that a set without its primary elects another.
    /// All other faults affect only the clients' path and cause no election, however long they last.
    #[must_use]
    pub fn elects(&self) -> bool {
        matches!(self, Self::ZoneOutage {} | Self::TargetDown { .. })
    }

    /// Its effect as seen by drivers, with their default settings and retryable writes (`docs/experiments.md`).
    #[must_use]
    pub fn drivers_see(&self) -> &'static str {
        match self {
            Self::Latency { .. } | Self::Bandwidth { .. } | Self::SlowClose { .. } => {
                "operations take longer; errors come only where a time-out of the driver's passes"
            }
            Self::Reset { .. } => "a network error at each reset, which is retried once",
            Self::BlackHole {} => {
                "operations hang; new connections fail after connectTimeoutMS (10 to 30 s), writes to a primary after 30 s"
            }
            Self::Refuse {} => {
                "new connections are reset; writes to a primary fail after serverSelectionTimeoutMS (30 s)"
            }
            Self::HalfOpen { .. } => {
                "operations that were sent hang until the monitor gives up (20 to 70 s; Java and C: until the flow ends)"
            }
            Self::ZoneOutage {} | Self::TargetDown { silent: true } => {
                "new operations go on once another primary is elected, 10 to 12 s; those that were sent hang until the \
                 monitor gives up (20 to 70 s; Java and C: until the flow ends)"
            }
            Self::TargetDown { silent: false } => "writes go on once another primary is elected, after 10 to 12 s",
            Self::PortMove { .. } => "hello names the new port, and drivers connect to it; no operation fails",
            Self::DnsFailure { .. } => "new clients cannot resolve; connected ones continue until they reconnect",
        }
    }

    /// Whether it affects individual flows, chosen when they start.
    #[must_use]
    pub fn affects_flows(&self) -> bool {
        match self {
            Self::Latency { .. }
            | Self::Bandwidth { .. }
            | Self::Reset { .. }
            | Self::BlackHole {}
            | Self::Refuse {}
            | Self::HalfOpen { .. }
            | Self::SlowClose { .. } => true,
            Self::ZoneOutage {} | Self::TargetDown { .. } | Self::PortMove { .. } | Self::DnsFailure { .. } => false,
        }
    }
}

/// The direction of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultDirection {
    /// Both.
    #[default]
    Both,
    /// From client to target.
    ToTarget,
    /// From target to client.
    ToClient,
}

/// The response of a failing resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DnsFailure {
    /// SERVFAIL.
    Servfail,
    /// NXDOMAIN, although the name exists.
    Nxdomain,
    /// REFUSED.
    Refused,
    /// No answer.
    Timeout,
}

/// The scope of a fault: it matches where all given fields match. An empty scope matches everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FaultScope {
    /// The load balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<VpceServiceId>,
    /// The addressable target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetId>,
    /// A process behind it, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<VpceId>,
    /// The zone: for flows, of the endpoint's address; for targets, of the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
}

/// A share in millionths, written as a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline)]
pub struct Share(#[schemars(with = "f64", range(min = 0.0, max = 1.0))] u32);

impl Share {
    const WHOLE: u32 = 1_000_000;

    /// The share `part`; `None` if it is not within 0 to 1.
    #[must_use]
    pub fn new(part: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a million")]
        (0.0..=1.0).contains(&part).then(|| Self((part * f64::from(Self::WHOLE)).round() as u32))
    }

    /// Whether it is everything.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.0 == Self::WHOLE
    }

    /// Whether it includes `hash`, a value that is evenly distributed over `u64`.
    #[must_use]
    pub fn includes(self, hash: u64) -> bool {
        hash % u64::from(Self::WHOLE) < u64::from(self.0)
    }
}

impl Default for Share {
    fn default() -> Self {
        Self(Self::WHOLE)
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / f64::from(Self::WHOLE))
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let part = f64::deserialize(deserializer)?;
        Self::new(part).ok_or_else(|| serde::de::Error::custom(format!("{part} is no share (0 to 1)")))
    }
}

impl Fault {
    /// A pseudo-random number for the `n`-th flow or question, the same in every run.
    #[must_use]
    pub fn random_for(&self, n: u64) -> u64 {
        // splitmix64: every n gives a different number.
        let mut z = self.seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Whether it is an outage of a service's zone, at one or all of its endpoints.
    #[must_use]
    pub fn loses_zone(&self, service: &VpceServiceId, zone: &Zone) -> bool {
        matches!(self.kind, FaultKind::ZoneOutage {})
            && self.scope.zone.as_ref() == Some(zone)
            && self.scope.service.as_ref().is_none_or(|of| of == service)
    }

    /// Whether it has begun.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.after.is_zero()
    }
}

/// Checks that a fault is complete and consistent.
///
/// # Errors
///
/// A sentence for the user.
pub fn check_fault(fault: &Fault) -> Result<(), String> {
    let (kind, scope) = (&fault.kind, &fault.scope);
    let label = kind.label();
    if fault.name.is_empty() || fault.name.len() > 64 || fault.name.chars().any(char::is_control) {
        return Err("its name must have 1 to 64 printable characters".to_owned());
    }
    match kind {
        FaultKind::ZoneOutage {} if scope.zone.is_none() => Err(format!("`{label}` needs a zone")),
        FaultKind::ZoneOutage {} if scope.target.is_some() || scope.member.is_some() => {
            Err(format!("`{label}` is of a whole zone: leave `target` and `member` out"))
        }
        FaultKind::PortMove { .. } if scope.target.is_none() => Err(format!("`{label}` needs a target")),
        FaultKind::PortMove { every: Some(every) } if every.is_zero() => {
            Err("the time between two moves must not be 0".to_owned())
        }
        FaultKind::Reset { bytes: None, time: None } => {
            Err(format!("`{label}` needs a number of bytes or a time, or both"))
        }
        FaultKind::Bandwidth { bytes_per_second: 0, .. } => {
            Err("0 bytes a second is `black-hole`; `bandwidth` needs 1 at least".to_owned())
        }
        _ if !fault.share.is_whole() && !kind.affects_flows() && !matches!(kind, FaultKind::DnsFailure { .. }) => {
            Err(format!("`{label}` has no share: it does not affect single flows"))
        }
        _ => Ok(()),
    }
}

/// The keys of a [`FaultScope`].
pub const SCOPE_KEYS: [&str; 5] = ["service", "target", "member", "endpoint", "zone"];

/// The keys of every fault besides `type` and those of its scope.
const COMMON_KEYS: [&str; 5] = ["name", "share", "seed", "after", "for"];

/// By hand: serde's `deny_unknown_fields` does not work beside `flatten`.
impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fn take<T: DeserializeOwned, E: Error>(object: &mut Map<String, Value>, key: &str) -> Result<Option<T>, E> {
            let value = object.remove(key).map(T::deserialize).transpose();
            value.map_err(|error| E::custom(format_args!("{key}: {error}")))
        }
        let mut value = Value::deserialize(deserializer)?;
        rename_former_fault_keys(&mut value);
        let mut object = Map::<String, Value>::deserialize(value).map_err(D::Error::custom)?;
        let (name, share, seed) = (take(&mut object, "name")?, take(&mut object, "share")?, take(&mut object, "seed")?);
        let (after, lasts) = (take(&mut object, "after")?, take::<Option<HumanDuration>, _>(&mut object, "for")?);
        let scope = FaultScope {
            service: take(&mut object, "service")?,
            target: take(&mut object, "target")?,
            member: take(&mut object, "member")?,
            endpoint: take(&mut object, "endpoint")?,
            zone: take(&mut object, "zone")?,
        };
        // Every other key is the kind's, or unknown.
        let kind = FaultKind::deserialize(Value::Object(object)).map_err(|error| {
            let text = error.to_string();
            if !text.starts_with("unknown field") {
                return D::Error::custom(text);
            }
            let (text, keys) = (text.trim_end_matches(", there are no fields"), [COMMON_KEYS, SCOPE_KEYS].concat());
            D::Error::custom(format_args!("{text}; every fault has `type`, `{}`", keys.join("`, `")))
        })?;
        Ok(Self {
            name: name.unwrap_or_default(),
            share: share.unwrap_or_default(),
            seed: seed.unwrap_or_default(),
            after: after.map(|HumanDuration(after)| after).unwrap_or_default(),
            lasts: lasts.flatten().map(|HumanDuration(lasts)| lasts),
            scope,
            kind,
        })
    }
}

/// Keys of earlier versions, whose values are milliseconds, and the current keys.
const FORMER_KEYS: [(&str, &str); 6] = [
    ("after_ms", "after"),
    ("lasts_ms", "for"),
    ("delay_ms", "delay"),
    ("jitter_ms", "jitter"),
    ("time_ms", "time"),
    ("every_ms", "every"),
];

/// Converts a fault in JSON of an earlier version to the current form, and returns a notice for each key that changed. The objects
/// `kind` and `scope` are merged into the fault, and the keys of times (`delay_ms`, a number) are renamed (`delay`, a text with a
/// unit). A key with a value of another type, or that is present in both forms, is left unchanged, so that it is refused as unknown.
pub fn rename_former_fault_keys(fault: &mut Value) -> Vec<String> {
    let Some(fault) = fault.as_object_mut() else { return Vec::new() };
    let mut notices = Vec::new();
    for key in ["kind", "scope"] {
        let Some(Value::Object(inner)) = fault.get(key) else { continue };
        let is_allowed = |inner: &str| SCOPE_KEYS.contains(&inner) == (key == "scope") && !COMMON_KEYS.contains(&inner);
        if inner.keys().any(|inner| fault.contains_key(inner) || !is_allowed(inner)) {
            continue;
        }
        if let Some(Value::Object(inner)) = fault.remove(key) {
            fault.extend(inner);
            notices.push(format!(
                "{key}: the key of an earlier version; write what is in it beside `name`, without `{key}`"
            ));
        }
    }
    let renamed = FORMER_KEYS.map(|keys| rename_former_time(fault, keys, Duration::from_millis));
    notices.extend(renamed.into_iter().flatten());
    notices
}

mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::HumanDuration;

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        HumanDuration(*value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        HumanDuration::deserialize(deserializer).map(|HumanDuration(value)| value)
    }
}

mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::HumanDuration;

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(HumanDuration).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<HumanDuration>::deserialize(deserializer)?.map(|HumanDuration(value)| value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_flows_is_that_share_and_the_same_in_every_run() {
        let fault: Fault = serde_json::from_str(
            r#"{"name":"slow","type":"latency","delay":"100ms","share":0.3,"seed":7,"zone":"us-east-1a"}"#,
        )
        .expect("a fault");
        let hit =
            |fault: &Fault| (0..10_000).filter(|n| fault.share.includes(fault.random_for(*n))).collect::<Vec<_>>();
        let (first, again) = (hit(&fault), hit(&fault.clone()));
        assert!(first == again && (2_850..=3_150).contains(&first.len()), "{}", first.len());
        assert_ne!(first, hit(&Fault { seed: 8, ..fault.clone() }));
        let text = serde_json::to_string(&fault).expect("it is text");
        assert_eq!(serde_json::from_str::<Fault>(&text).expect("a fault"), fault);
        assert!(serde_json::from_str::<Share>("1.5").is_err());
    }

    #[test]
    fn keys_of_earlier_versions_are_read_and_named() {
        let former = r#"{"kind":{"type":"latency","delay_ms":1500,"jitter_ms":20},"scope":{"zone":"us-east-1a"},"after_ms":0,"lasts_ms":null}"#;
        let now = r#"{"type":"latency","delay":"1500ms","jitter":"20ms","zone":"us-east-1a","after":"0s"}"#;
        let fault: Fault = serde_json::from_str(now).expect("a fault");
        assert_eq!(serde_json::from_str::<Fault>(former).expect("a fault"), fault);
        let mut value: Value = serde_json::from_str(former).expect("JSON");
        assert_eq!(
            rename_former_fault_keys(&mut value),
            [
                "kind: the key of an earlier version; write what is in it beside `name`, without `kind`",
                "scope: the key of an earlier version; write what is in it beside `name`, without `scope`",
                "after_ms: the key of an earlier version; write `\"after\": \"0s\"`",
                "lasts_ms: the key of an earlier version; write `\"for\": null`",
                "delay_ms: the key of an earlier version; write `\"delay\": \"1500ms\"`",
                "jitter_ms: the key of an earlier version; write `\"jitter\": \"20ms\"`",
            ]
        );
        assert!(rename_former_fault_keys(&mut value).is_empty());
        for (wrong, part) in [
            (r#"[]"#, "invalid type: sequence, expected a map"),
            (r#"{}"#, "missing field `type`"),
            (r#"{"kind":"refuse"}"#, "missing field `type`"),
            (r#"{"type":"slow-close","delay":1500}"#, "invalid type"),
            (r#"{"type":"slow-close","delay":"1500"}"#, "`1500` is not a duration"),
            (r#"{"type":"slow-close","delay_ms":"1500ms"}"#, "unknown field `delay_ms`"),
            (r#"{"type":"slow-close","delay":"1s","delay_ms":1500}"#, "unknown field `delay_ms`"),
            (r#"{"type":"slow-close","delay":"1s","kind":{"type":"refuse"}}"#, "unknown field `kind`"),
            (r#"{"type":"refuse","zone":"us-east-1a","scope":{"zone":"us-east-1b"}}"#, "unknown field `scope`"),
            (r#"{"kind":{"type":"refuse"},"scope":[]}"#, "unknown field `scope`"),
            (r#"{"kind":{"type":"refuse","zone":"us-east-1a"}}"#, "missing field `type`"),
            (r#"{"kind":{"type":"refuse","share":0.1}}"#, "missing field `type`"),
            (r#"{"scope":{"type":"refuse"}}"#, "missing field `type`"),
            (r#"{"type":"refuse","zne":"us-east-1a"}"#, "unknown field `zne`; every fault has `type`, `name`, "),
            (
                r#"{"type":"latency","delay":"1s","shar":0.5}"#,
                "expected one of `delay`, `jitter`, `direction`; every fault has `type`, ",
            ),
            (r#"{"type":"refuse","target":5}"#, "target: invalid type: integer `5`"),
            (r#"{"type":"black-hole","delay":"1s"}"#, "unknown field `delay`"),
            (r#"{"type":"refuse","delay_ms":1500}"#, "unknown field `delay`"),
            (r#"{"type":"refuse","after":null}"#, "after: invalid type: null"),
            (r#"{"type":"refuse","for":"soon"}"#, "for: `soon` is not a duration"),
            (r#"{"type":"refuse","name":5}"#, "name: invalid type"),
        ] {
            let error = serde_json::from_str::<Fault>(wrong).expect_err(wrong).to_string();
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }

    /// One form in the config, the API and the saved state: the keys of the config's `[[fault]]`.
    #[test]
    fn every_kind_is_written_with_the_keys_of_the_config() {
        for keys in [
            r#"type = "latency", delay = "100ms", jitter = "20ms", direction = "to_target", zone = "us-east-1a""#,
            r#"type = "bandwidth", bytes_per_second = 1000, target = "Cluster0/shard-00-00", member = "shard-00-00""#,
            r#"type = "reset", bytes = 5, time = "1s", share = 0.5, seed = 7"#,
            r#"type = "black-hole", endpoint = "vpce-024f5b57108c8d3ed""#,
            r#"type = "refuse", service = "vpce-svc-02863655456245e5c", after = "1m", for = "2m""#,
            r#"type = "half-open", time = "1s""#,
            r#"type = "slow-close", delay = "1s""#,
            r#"type = "zone-outage", zone = "us-east-1a""#,
            r#"type = "target-down", silent = true"#,
            r#"type = "port-move", target = "Cluster0/shard-00-00", every = "1m""#,
            r#"type = "dns-failure", answer = "servfail""#,
        ] {
            let text = format!("fault = [{{ name = \"x\", {keys} }}]");
            let config = crate::config::parse(&text, "f.toml").unwrap_or_else(|errors| panic!("{errors}"));
            let of_config = config.desired.faults.values().next().expect("one fault");
            let table: toml::Table = text.parse().expect("TOML");
            let json = serde_json::to_value(&table["fault"][0]).expect("JSON");
            assert_eq!(serde_json::from_value::<Fault>(json.clone()).expect(keys), **of_config);
            let written = serde_json::to_value(of_config).expect("JSON");
            for (key, value) in json.as_object().expect("an object") {
                assert_eq!(written[key], *value, "{key}: {written}");
            }
            assert_eq!(serde_json::from_value::<Fault>(written).expect(keys), **of_config);
        }
    }
}

//! Claims: addresses that one of several gateways serves at a time, with leases.

use std::borrow::Borrow;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use super::Zone;
use super::text::text_type;

text_type!(
    /// A group of addresses that one gateway at a time serves: those of the endpoints in a zone, by the zone's name, or the
    /// public ones, `public`.
    ClaimId, "an availability zone (a region and one letter, as `us-east-1a`), or `public` for the public addresses",
    |text| text == ClaimId::PUBLIC || text.parse::<Zone>().is_ok()
);

impl ClaimId {
    /// Public addresses of nodes and apps.
    pub const PUBLIC: &str = "public";
}

impl Borrow<str> for ClaimId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// How long a listener may accept connections. Clones share the lease.
#[derive(Debug, Clone, Default)]
pub struct Lease(Option<Arc<RwLock<Option<Instant>>>>);

impl Lease {
    /// A lease that ends at `end`; `None`: it has no end until one is set.
    #[must_use]
    pub fn until(end: Option<Instant>) -> Self {
        Self(Some(Arc::new(RwLock::new(end))))
    }

    /// Sets another end. No effect on the lease of a gateway that shares no state, which never ends.
    pub fn set_end(&self, end: Option<Instant>) {
        if let Some(lease) = &self.0 {
            *lease.write().unwrap_or_else(PoisonError::into_inner) = end;
        }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self, now: impl FnOnce() -> Instant) -> bool {
        let Some(lease) = &self.0 else { return false };
        let end = *lease.read().unwrap_or_else(PoisonError::into_inner);
        end.is_some_and(|end| end <= now())
    }
}

impl PartialEq for Lease {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Lease {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_claim_is_a_zone_or_the_public_addresses() {
        for text in ["us-east-1a", "eastus2-1", "public"] {
            assert_eq!(text.parse::<ClaimId>().expect(text).as_str(), text);
        }
        for wrong in ["", "us-east-1", "Public", "all"] {
            assert!(wrong.parse::<ClaimId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_lease_is_over_at_its_end_and_one_that_cannot_end_never_is() {
        let now = tokio::time::Instant::now().into_std();
        let lease = Lease::until(None);
        assert!(!lease.is_over(|| now));
        lease.clone().set_end(Some(now + Duration::from_secs(1)));
        assert!(!lease.is_over(|| now));
        assert!(lease.is_over(|| now + Duration::from_secs(1)));
        let endless = Lease::default();
        endless.set_end(Some(now));
        assert!(!endless.is_over(|| now));
        assert!(endless == Lease::default() && endless != lease && lease == lease.clone());
    }
}

//! What the two services and the network allow, and why not.
//!
//! Every rule is checked on every call, so that all mistakes are reported at once. The rules don't change anything;
//! whatever passes them can be compiled.

mod apps;
mod network;
mod placement;
mod private_zones;

use std::collections::BTreeSet;

use super::error::{Findings, Location, RuleError};
use super::held::Held;
use super::survey::Survey;

pub use placement::may_disable_regional_mode;

pub(super) use apps::is_paired;
pub(super) use private_zones::owner;

/// Checks everything.
pub(super) fn check(survey: &Survey<'_>, held: &Held, findings: &mut Findings) {
    network::check(survey, findings);
    placement::check(survey, held, findings);
    apps::check(survey, findings);
    private_zones::check(survey, findings);
}

/// Refuses the second and every further one of `ids`, as `what`.
fn distinct<I: Ord + ToString>(
    what: &'static str,
    ids: impl IntoIterator<Item = I>,
    at: impl Fn(&I) -> Location,
    findings: &mut Findings,
) {
    let mut seen = BTreeSet::new();
    for id in ids {
        if seen.contains(&id) {
            findings.refuse(at(&id), RuleError::Duplicate { what, id: id.to_string() });
        }
        seen.insert(id);
    }
}

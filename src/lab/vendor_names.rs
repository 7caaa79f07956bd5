//! Host names of the vendors' APIs that tools have built in.

use std::collections::BTreeSet;

use crate::model::{DeploymentModel, Desired, DnsName, Region};

/// Atlas' API (Atlas Administration API, *Base URL*), and its OAuth endpoint.
const ATLAS: &str = "cloud.mongodb.com";

/// App Services' Admin API (App Services Admin API, *Base URL*).
const APP_SERVICES: &str = "services.cloud.mongodb.com";

/// The global endpoints of STS and IAM (AWS General Reference, *AWS STS endpoints*, *IAM endpoints*).
const GLOBAL: [&str; 2] = ["sts.amazonaws.com", "iam.amazonaws.com"];

/// The names for a lab of `desired`: AWS' for each of its regions. That of App Services is omitted if an app with the
/// global deployment model uses it for its clients.
pub(super) fn of(desired: &Desired) -> BTreeSet<DnsName> {
    let services = desired.projects.iter().flat_map(|project| &project.services);
    let regions = services.map(|service| service.name().region().clone());
    let regions = desired.vpcs.values().map(|vpc| vpc.region.clone()).chain(regions);
    let regions: BTreeSet<Region> = regions.filter(|region| region.cloud().is_none()).collect();
    let regional = regions.iter().flat_map(|region| ["ec2", "sts"].map(|api| format!("{api}.{region}.amazonaws.com")));
    let is_global = desired.apps.iter().any(|app| app.deployment == DeploymentModel::Global);
    let app_services = (!is_global).then_some(APP_SERVICES);
    let fixed = [ATLAS].into_iter().chain(app_services).chain(GLOBAL).map(str::to_owned);
    fixed.chain(regional).map(|name| name.parse().expect("labels of letters and digits")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::DEFAULT_CONFIG;

    fn names(text: &str) -> Vec<String> {
        let desired = crate::config::parse(text, "lab.toml").expect("a good config").desired;
        of(&desired).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_apis_have_the_vendors_names_in_the_configs_regions() {
        assert_eq!(
            names(DEFAULT_CONFIG),
            [
                "cloud.mongodb.com",
                "ec2.us-east-1.amazonaws.com",
                "iam.amazonaws.com",
                "services.cloud.mongodb.com",
                "sts.amazonaws.com",
                "sts.us-east-1.amazonaws.com"
            ]
        );
    }
}

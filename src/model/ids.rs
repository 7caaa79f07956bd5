//! Identifiers of AWS and Atlas, a prefix and lower-case hex digits; and paths, which are the ids of Azure and Google
//! Cloud.

use std::borrow::Borrow;

use super::text::text_type;
use super::{Cloud, ParseTextError};

/// Whether `text` is `prefix` followed by one of `lengths` lower-case hex digits.
pub(crate) fn is_prefixed_hex(text: &str, prefix: &str, lengths: &[usize]) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// Longer than any id of these kinds: Azure's names have at most 90 characters, Google's 63. With its prefix it is
/// still shorter than the maximum key of the saved state.
const MAX_PATH_LENGTH: usize = 400;

/// Whether `text` is the id of a resource in Azure (`/subscriptions/…/providers/Microsoft.Network/KIND/NAME`, in any
/// case) or Google Cloud (`projects/PROJECT/SCOPE/KIND/NAME`).
fn is_path(text: &str, azure: &str, google: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.()".contains(&b));
    let parts: Vec<&str> = text.strip_prefix('/').unwrap_or(text).split('/').collect();
    let are_names = text.len() <= MAX_PATH_LENGTH && parts.iter().all(|part| is_name(part));
    let (kind, scope) = match parts.as_slice() {
        [subscriptions, _, groups, _, providers, network, kind @ ..]
            if text.starts_with('/')
                && [(*subscriptions, "subscriptions"), (groups, "resourceGroups"), (providers, "providers")]
                    .iter()
                    .chain(&[(*network, "Microsoft.Network")])
                    .all(|(own, word)| own.eq_ignore_ascii_case(word)) =>
        {
            (kind, azure)
        }
        ["projects", _, "global", kind @ ..] | ["projects", _, "regions", _, kind @ ..] if !text.starts_with('/') => {
            (kind, google)
        }
        _ => return false,
    };
    let kinds: Vec<&str> = kind.iter().step_by(2).copied().collect();
    are_names && kind.len() % 2 == 0 && kinds.join("/").eq_ignore_ascii_case(scope)
}

/// An id with different formats on Azure and Google Cloud.
macro_rules! cloud_path {
    ($name:ident) => {
        impl $name {
            /// The cloud of the id; `None`: AWS.
            #[must_use]
            pub fn cloud(&self) -> Option<Cloud> {
                let text = self.as_str();
                if text.starts_with('/') {
                    Some(Cloud::Azure)
                } else {
                    text.starts_with("projects/").then_some(Cloud::Gcp)
                }
            }

            /// The id in Atlas: in Google Cloud only its name.
            #[must_use]
            pub fn atlas(&self) -> &str {
                match self.cloud() {
                    Some(Cloud::Gcp) => self.as_str().rsplit('/').next().unwrap_or_default(),
                    Some(Cloud::Azure) | None => self.as_str(),
                }
            }
        }
    };
}

/// 64 hex digits derived from a text, for objects without an id: the same at every start.
pub(crate) fn derived_digits(text: &str) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()))
}

text_type!(
    /// A VPC: `vpc-` and 8 or 17 lower-case hex digits.
    VpcId, "a VPC id (`vpc-` and 8 or 17 lower-case hex digits)",
    |text| is_prefixed_hex(text, "vpc-", &[8, 17]) || is_path(text, "virtualNetworks", "networks")
);
cloud_path!(VpcId);
text_type!(
    /// A subnet of a VPC: `subnet-` and 8 or 17 lower-case hex digits.
    SubnetId, "a subnet id (`subnet-` and 8 or 17 lower-case hex digits)",
    |text| is_prefixed_hex(text, "subnet-", &[8, 17]) || is_path(text, "virtualNetworks/subnets", "subnetworks")
);
text_type!(
    /// A security group: `sg-` and 8 or 17 lower-case hex digits.
    SecurityGroupId, "a security group id (`sg-` and 8 or 17 lower-case hex digits)",
    |text| is_prefixed_hex(text, "sg-", &[8, 17])
);
text_type!(
    /// A rule of a security group: `sgr-` and 17 lower-case hex digits.
    SecurityRuleId, "a security group rule id (`sgr-` and 17 lower-case hex digits)",
    |text| is_prefixed_hex(text, "sgr-", &[17])
);
text_type!(
    /// An elastic network interface: `eni-` and 8 or 17 lower-case hex digits.
    EniId, "a network interface id (`eni-` and 8 or 17 lower-case hex digits)",
    |text| is_prefixed_hex(text, "eni-", &[8, 17]) || is_path(text, "networkInterfaces", "addresses")
);
text_type!(
    /// An interface endpoint: `vpce-` and 8 or 17 lower-case hex digits.
    VpceId, "an interface endpoint id (`vpce-` and 8 or 17 lower-case hex digits)",
    |text| is_prefixed_hex(text, "vpce-", &[8, 17]) || is_path(text, "privateEndpoints", "forwardingRules")
);
cloud_path!(VpceId);

impl VpceId {
    /// Parses the id of an interface endpoint of AWS.
    ///
    /// # Errors
    ///
    /// [`ParseTextError`] for anything else.
    pub fn of_aws(text: &str) -> Result<Self, ParseTextError> {
        let id: Self = text.parse()?;
        match id.cloud() {
            None => Ok(id),
            Some(_) => Err(ParseTextError::not(text, "an interface endpoint id of AWS")),
        }
    }
}
text_type!(
    /// An endpoint service: `vpce-svc-` and 17 lower-case hex digits; outside AWS Atlas' id with 24.
    VpceServiceId, "an endpoint service id (`vpce-svc-` and 17 lower-case hex digits)",
    |text| is_prefixed_hex(text, "vpce-svc-", &[17]) || is_prefixed_hex(text, "", &[24])
);
text_type!(
    /// An Atlas project (a *group* in the API): 24 lower-case hex digits.
    ProjectId, "a project id (24 lower-case hex digits)",
    |text| is_prefixed_hex(text, "", &[24])
);

text_type!(
    /// An App Services client app id: a name, a dash and five lower-case letters, `myapp-abcde`.
    AppId, "a client app id (a name, `-`, and five lower-case letters, as `myapp-abcde`)",
    |text| text.rsplit_once('-').is_some_and(|(name, suffix)| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && suffix.len() == 5
            && suffix.bytes().all(|b| b.is_ascii_lowercase())
    })
);
impl Borrow<str> for AppId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

text_type!(
    /// The id of one gateway among those that share a state.
    GatewayId, "a gateway's id (1 to 63 letters, digits, `-`, `_` and `.`)",
    |text| {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        (1..=63).contains(&text.len()) && text.bytes().all(is_allowed)
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_lengths_that_aws_and_atlas_give_them() {
        assert!("vpce-024f5b57108c8d3ed".parse::<VpceId>().is_ok());
        assert!("vpce-0123abcd".parse::<VpceId>().is_ok());
        assert!("vpce-svc-02863655456245e5c".parse::<VpceServiceId>().is_ok());
        assert!("5f0000000000000000000001".parse::<ProjectId>().is_ok());
        for wrong in ["vpce-", "vpce-024F5B57108C8D3ED", "vpce-024f5b57108c8d3e", "vpce-svc-02863655456245e5c"] {
            assert!(wrong.parse::<VpceId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn resources_of_other_clouds_have_the_paths_that_are_their_ids() {
        let azure = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network";
        let endpoint: VpceId = format!("{azure}/privateEndpoints/pe0").parse().expect("an endpoint");
        assert_eq!((endpoint.cloud(), endpoint.atlas()), (Some(Cloud::Azure), endpoint.as_str()));
        assert!(format!("{azure}/virtualNetworks/v/subnets/s").parse::<SubnetId>().is_ok());
        let rule: VpceId = "projects/p/regions/us-central1/forwardingRules/psc".parse().expect("a rule");
        assert_eq!((rule.cloud(), rule.atlas()), (Some(Cloud::Gcp), "psc"));
        assert!("projects/p/global/networks/default".parse::<VpcId>().is_ok());
        let aws: VpceId = "vpce-0123abcd".parse().expect("AWS's");
        assert_eq!((aws.cloud(), aws.atlas()), (None, "vpce-0123abcd"));
        assert!("65f0000000000000000000a1".parse::<VpceServiceId>().is_ok());
        for wrong in [
            "projects/p/regions/us-central1/addresses/psc".to_owned(),
            format!("{azure}/virtualNetworks/v"),
            format!("{azure}/privateEndpoints/"),
            format!("{azure}/privateEndpoints/pe0/extra"),
            "privateEndpoints/pe0".to_owned(),
        ] {
            assert!(wrong.parse::<VpceId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_app_id_ends_in_five_letters() {
        assert!("myapp-abcde".parse::<AppId>().is_ok());
        assert!("my-app-abcde".parse::<AppId>().is_ok());
        assert!("myapp".parse::<AppId>().is_err());
        assert!("myapp-abcd1".parse::<AppId>().is_err());
    }
}

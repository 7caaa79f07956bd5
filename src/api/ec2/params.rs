//! A request's parameters: `Name`, `Name.1`, `Name.1.Key`. A parameter that no handler has read is refused, so that no
//! part of a request is silently ignored.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::errors::Ec2Error;
use crate::control::inventory::Tags;
use crate::model::is_prefixed_hex;

/// A parameter.
struct Param {
    key: String,
    value: String,
    /// Whether a handler has read it.
    read: AtomicBool,
}

pub(super) struct Params(Vec<Param>);

impl Params {
    pub(super) fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs.into_iter().map(|(key, value)| Param { key, value, read: AtomicBool::new(false) }).collect())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let param = self.0.iter().find(|param| param.key == name)?;
        param.read.store(true, Ordering::Relaxed);
        Some(param.value.as_str())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Ec2Error> {
        self.text(name).filter(|value| !value.is_empty()).ok_or_else(|| Ec2Error::missing(name))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Ec2Error> {
        match self.text(name) {
            None => Ok(None),
            Some("true" | "True" | "TRUE" | "1") => Ok(Some(true)),
            Some("false" | "False" | "FALSE" | "0") => Ok(Some(false)),
            Some(other) => Err(Ec2Error::invalid(name, other)),
        }
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Ec2Error> {
        self.text(name).map(|text| text.parse().map_err(|_| Ec2Error::invalid(name, text))).transpose()
    }

    /// Checks a parameter that has no effect here: only its actual value is accepted.
    ///
    /// # Errors
    ///
    /// `UnsupportedOperation` for another value.
    pub(super) fn only(&self, name: &str, values: &[&str]) -> Result<(), Ec2Error> {
        match self.text(name) {
            Some(value) if !values.contains(&value) => Err(Ec2Error::new(
                "UnsupportedOperation",
                format!("{name}={value} is not supported here; leave it out, or set it to {}.", values.join(" or ")),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses documented parameters of unsupported features.
    ///
    /// # Errors
    ///
    /// `UnsupportedOperation` for the first that is present.
    pub(super) fn unsupported(&self, names: &[impl AsRef<str>]) -> Result<(), Ec2Error> {
        let is_named = |param: &&Param| {
            names.iter().any(|name| {
                param.key.strip_prefix(name.as_ref()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
        };
        self.0.iter().find(is_named).map_or(Ok(()), |Param { key, .. }| {
            Err(Ec2Error::new("UnsupportedOperation", format!("{key} is not supported here; leave it out.")))
        })
    }

    /// `Name.1`, `Name.2`, … in order.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        self.indexes(name).into_iter().filter_map(|n| self.text(&format!("{name}.{n}"))).collect()
    }

    /// The distinct numbers after `name.`, in order.
    pub(super) fn indexes(&self, name: &str) -> Vec<u32> {
        let numbers = self.0.iter().filter_map(|param| {
            let rest = param.key.strip_prefix(name)?.strip_prefix('.')?;
            rest.split('.').next()?.parse().ok()
        });
        numbers.collect::<BTreeSet<u32>>().into_iter().collect()
    }

    /// An id of the given format.
    pub(super) fn id<T: FromStr>(&self, name: &str, form: IdForm) -> Result<T, Ec2Error> {
        form.parse(self.required(name)?)
    }

    /// The ids of a list, each of the given format.
    pub(super) fn ids<T: FromStr>(&self, name: &str, form: IdForm) -> Result<Vec<T>, Ec2Error> {
        self.list(name).into_iter().map(|text| form.parse(text)).collect()
    }

    /// The values of parameters that refer to a resource, except lists of endpoints, each of which is changed
    /// independently.
    pub(super) fn resource_ids(&self) -> impl Iterator<Item = &str> {
        let is_id = |param: &&Param| {
            let name = param.key.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit());
            name.ends_with("Id") && !param.key.starts_with("VpcEndpointId.")
        };
        self.0.iter().filter(is_id).map(|param| param.value.as_str())
    }

    /// `Filter.N.Name` with its values.
    pub(super) fn filters(&self) -> Result<Vec<(&str, Vec<&str>)>, Ec2Error> {
        let filter = |n| {
            let name = self.required(&format!("Filter.{n}.Name"))?;
            Ok((name, self.list(&format!("Filter.{n}.Value"))))
        };
        self.indexes("Filter").into_iter().map(filter).collect()
    }

    /// A digest that distinguishes requests with the same client token: all parameters except the token and the
    /// signature's.
    pub(super) fn fingerprint(&self) -> String {
        let counts = |param: &&Param| param.key != "ClientToken" && !is_of_every_request(&param.key);
        let mut pairs: Vec<_> = self.0.iter().filter(counts).map(|param| (&param.key, &param.value)).collect();
        pairs.sort();
        pairs.iter().map(|(key, value)| format!("{key}={value}&")).collect()
    }

    /// # Errors
    ///
    /// `UnknownParameter` for the first parameter that no handler has read.
    pub(super) fn check_all_read(&self) -> Result<(), Ec2Error> {
        let is_unread = |param: &&Param| !param.read.load(Ordering::Relaxed) && !is_of_every_request(&param.key);
        self.0.iter().find(is_unread).map_or(Ok(()), |Param { key, .. }| {
            Err(Ec2Error::new("UnknownParameter", format!("The parameter {key} is not recognized.")))
        })
    }
}

/// Parameters that every request may have: the API's version, and a signature in the query. Source: Amazon EC2 API
/// Reference, *Common query parameters*.
fn is_of_every_request(key: &str) -> bool {
    let common =
        ["Action", "Version", "AWSAccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "Timestamp"];
    common.contains(&key) || key.starts_with("X-Amz-")
}

/// The format of one kind of id, and the error code for an id of another format, which is refused before any look-up.
/// Source: Amazon EC2 API Reference, *Error codes*, whose spelling (`ID`, `Id`) is inconsistent.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdForm {
    /// The part before the digits, with its dash.
    pub(super) prefix: &'static str,
    malformed: &'static str,
}

pub(super) const ACL: IdForm = IdForm { prefix: "acl-", malformed: "InvalidNetworkAclId.Malformed" };
pub(super) const ENDPOINT: IdForm = IdForm { prefix: "vpce-", malformed: "InvalidVpcEndpointId.Malformed" };
pub(super) const GROUP: IdForm = IdForm { prefix: "sg-", malformed: "InvalidGroupId.Malformed" };
pub(super) const INTERFACE: IdForm = IdForm { prefix: "eni-", malformed: "InvalidNetworkInterfaceId.Malformed" };
pub(super) const PREFIX_LIST: IdForm = IdForm { prefix: "pl-", malformed: "InvalidPrefixListId.Malformed" };
pub(super) const ROUTE_TABLE: IdForm = IdForm { prefix: "rtb-", malformed: "InvalidRouteTableId.Malformed" };
pub(super) const RULE: IdForm = IdForm { prefix: "sgr-", malformed: "InvalidSecurityGroupRuleId.Malformed" };
pub(super) const SERVICE: IdForm = IdForm { prefix: "vpce-svc-", malformed: "InvalidVpcEndpointServiceId.Malformed" };
pub(super) const SUBNET: IdForm = IdForm { prefix: "subnet-", malformed: "InvalidSubnetID.Malformed" };
pub(super) const VPC: IdForm = IdForm { prefix: "vpc-", malformed: "InvalidVpcID.Malformed" };

impl IdForm {
    /// Whether a text is the prefix followed by 8 or 17 lower-case hex digits.
    pub(super) fn fits(self, text: &str) -> bool {
        is_prefixed_hex(text, self.prefix, &[8, 17])
    }

    /// # Errors
    ///
    /// `InvalidX.Malformed`, also for ids of other clouds.
    pub(super) fn check(self, text: &str) -> Result<(), Ec2Error> {
        if self.fits(text) { Ok(()) } else { Err(self.refusal(text)) }
    }

    /// # Errors
    ///
    /// As [`Self::check`].
    pub(super) fn parse<T: FromStr>(self, text: &str) -> Result<T, Ec2Error> {
        self.check(text)?;
        text.parse().map_err(|_| self.refusal(text))
    }

    fn refusal(self, text: &str) -> Ec2Error {
        Ec2Error::new(self.malformed, format!("Invalid id: \"{text}\" (expecting \"{}...\")", self.prefix))
    }
}

impl Params {
    /// The tags of a new resource of this type.
    pub(super) fn tags(&self, resource: &str) -> Result<Tags, Ec2Error> {
        let mut tags = Tags::new();
        for n in self.indexes("TagSpecification") {
            let wrong = |message: &str| Ec2Error::new("InvalidParameter", message);
            let kind = self
                .text(&format!("TagSpecification.{n}.ResourceType"))
                .ok_or_else(|| wrong("Tag specification resource type must have a value"))?;
            if kind != resource {
                let message = format!("'{kind}' is not a valid taggable resource type for this operation.");
                return Err(Ec2Error::new("InvalidParameterValue", message));
            }
            let own = self.tag_list(&format!("TagSpecification.{n}.Tag"))?;
            if own.is_empty() {
                return Err(wrong("Tag specification must have at least one tag"));
            }
            tags.extend(own);
        }
        Ok(tags)
    }

    /// `name.N.Key` with `name.N.Value`. Source: AWS, *Tag restrictions*.
    pub(super) fn tag_list(&self, name: &str) -> Result<Tags, Ec2Error> {
        let wrong = |message: String| Ec2Error::new("InvalidParameterValue", message);
        let mut tags = Tags::new();
        for n in self.indexes(name) {
            let key = self.required(&format!("{name}.{n}.Key"))?;
            let value = self.text(&format!("{name}.{n}.Value")).unwrap_or_default();
            if key.starts_with("aws:") {
                return Err(wrong("Tag keys starting with 'aws:' are reserved for internal use".to_owned()));
            }
            if key.chars().count() > 128 {
                return Err(wrong(format!("Tag key exceeds the maximum length of 128 characters: '{key}'")));
            }
            if value.chars().count() > 256 {
                return Err(wrong(format!("Tag value exceeds the maximum length of 256 characters: '{value}'")));
            }
            if tags.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(wrong(format!("Duplicate tag key '{key}' specified.")));
            }
        }
        Ok(tags)
    }
}

//! The fields and formats of VPC flow log records.
//!
//! Source: Amazon VPC User Guide, *Flow log records*: names, order and versions are those of its table.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use super::{ParseTextError, edits};

macro_rules! fields {
    ($($variant:ident $name:literal $version:literal $doc:literal;)+) => {
        /// A field of a flow log record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum FlowLogField {
            $(#[doc = $doc] $variant,)+
        }

        impl FlowLogField {
            /// Every field, in the table's order.
            pub const ALL: [Self; [$($version),+].len()] = [$(Self::$variant),+];

            /// Its name in a format and in a header.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The version of flow logs that introduced it; 0: a field of this gateway only.
            #[must_use]
            pub fn version(self) -> u8 {
                match self { $(Self::$variant => $version,)+ }
            }
        }
    };
}

fields! {
    Version "version" 2 "The highest version of the fields.";
    AccountId "account-id" 2 "The owner of the network interface.";
    InterfaceId "interface-id" 2 "The network interface.";
    SrcAddr "srcaddr" 2 "Whose packets they are.";
    DstAddr "dstaddr" 2 "Whom they are for.";
    SrcPort "srcport" 2 "The port they come from.";
    DstPort "dstport" 2 "The port they go to.";
    Protocol "protocol" 2 "IANA's number: 6 is TCP.";
    Packets "packets" 2 "How many.";
    Bytes "bytes" 2 "Their bytes, headers included.";
    Start "start" 2 "When the first one came in the window, in seconds since 1970.";
    End "end" 2 "When the last one came.";
    Action "action" 2 "ACCEPT or REJECT.";
    LogStatus "log-status" 2 "OK, NODATA or SKIPDATA.";
    VpcId "vpc-id" 3 "The VPC of the interface.";
    SubnetId "subnet-id" 3 "Its subnet.";
    InstanceId "instance-id" 3 "Its instance: `-`, as an endpoint's interface is requester-managed.";
    TcpFlags "tcp-flags" 3 "FIN 1, SYN 2, RST 4, SYN-ACK 18, or-ed over the window.";
    Type "type" 3 "IPv4 or IPv6.";
    PktSrcAddr "pkt-srcaddr" 3 "The packet's own source.";
    PktDstAddr "pkt-dstaddr" 3 "The packet's own destination.";
    Region "region" 4 "The region of the interface.";
    AzId "az-id" 4 "The id of its zone.";
    SublocationType "sublocation-type" 4 "`-`: no Wavelength zone, Outpost or Local Zone.";
    SublocationId "sublocation-id" 4 "`-`, as above.";
    PktSrcAwsService "pkt-src-aws-service" 5 "`-`: no address of AWS' public ranges.";
    PktDstAwsService "pkt-dst-aws-service" 5 "`-`, as above.";
    FlowDirection "flow-direction" 5 "ingress or egress, as the interface sees it.";
    TrafficPath "traffic-path" 5 "Of egress: 1 within the VPC, 3 a virtual private gateway, 4 a peering in the region.";
    RejectReason "reject-reason" 8 "`-`: AWS names Block Public Access and encryption controls there.";
    PlgwEndpointId "plgw-endpoint-id" 0 "The interface endpoint.";
    PlgwReason "plgw-reason" 0 "How a flow ended in the window, or why it was refused.";
}

/// The fields of a record, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowLogFormat(Vec<FlowLogField>);

impl FlowLogFormat {
    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &[FlowLogField] {
        &self.0
    }

    /// The highest version among its fields, for the field `version`; at least 2.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.0.iter().map(|field| field.version()).max().unwrap_or(2).max(2)
    }

    /// The names separated by spaces, as in the first line of AWS' files.
    #[must_use]
    pub fn header(&self) -> String {
        self.0.iter().map(|field| field.name()).collect::<Vec<_>>().join(" ")
    }
}

impl Default for FlowLogFormat {
    /// AWS' default format: the fields of version 2.
    fn default() -> Self {
        Self(FlowLogField::ALL.into_iter().filter(|field| field.version() == 2).collect())
    }
}

impl fmt::Display for FlowLogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<String> = self.0.iter().map(|field| format!("${{{}}}", field.name())).collect();
        f.write_str(&fields.join(" "))
    }
}

impl serde::Serialize for FlowLogFormat {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for FlowLogFormat {
    type Err = ParseTextError;

    fn from_str(text: &str) -> Result<Self, ParseTextError> {
        let mut fields = Vec::new();
        let mut seen = HashSet::new();
        for word in text.split_whitespace() {
            let name = word.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            let name = name.ok_or_else(|| {
                let name = word.trim_matches(|c| "${}".contains(c));
                ParseTextError::new(format!("`{word}` is no field; write it as `${{{name}}}`"))
            })?;
            let field = FlowLogField::ALL.into_iter().find(|field| field.name() == name).ok_or_else(|| {
                let nearest = FlowLogField::ALL.into_iter().min_by_key(|field| edits(name, field.name()));
                let nearest = nearest.map_or("srcaddr", FlowLogField::name);
                ParseTextError::new(format!("there is no field `{name}` here; did you mean `{nearest}`?"))
            })?;
            if !seen.insert(field) {
                return Err(ParseTextError::new(format!("`{}` appears twice", field.name())));
            }
            fields.push(field);
        }
        if fields.is_empty() {
            return Err(ParseTextError::new("a format has at least one field, as `${srcaddr}`"));
        }
        Ok(Self(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_format_is_awss() {
        let format = FlowLogFormat::default();
        let documented = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end \
                          action log-status";
        assert_eq!(format.header(), documented);
        assert_eq!(format.version(), 2);
        assert_eq!(format.to_string().parse(), Ok(format));
    }

    #[test]
    fn the_version_is_the_highest_of_the_fields() {
        let version = |text: &str| text.parse::<FlowLogFormat>().expect("a format").version();
        assert_eq!(version("${srcaddr} ${dstaddr}"), 2);
        assert_eq!(version("${version} ${vpc-id}"), 3);
        assert_eq!(version("${version} ${traffic-path} ${tcp-flags}"), 5);
        assert_eq!(version("${reject-reason}"), 8);
        assert_eq!(version("${plgw-reason}"), 2);
    }

    #[test]
    fn a_malformed_format_is_refused_with_the_reason() {
        let message = |text: &str| text.parse::<FlowLogFormat>().expect_err("no format").to_string();
        assert_eq!(message(" "), "a format has at least one field, as `${srcaddr}`");
        assert_eq!(message("srcaddr"), "`srcaddr` is no field; write it as `${srcaddr}`");
        assert_eq!(message("${src-addr}"), "there is no field `src-addr` here; did you mean `srcaddr`?");
        assert_eq!(message("${srcaddr} ${srcaddr}"), "`srcaddr` appears twice");
    }
}

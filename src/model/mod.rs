//! The domain's types: identifiers, addresses, the consumer's and the provider's side, and flows.
//!
//! No I/O, no async, no clock. A value of one of these types proves that its text was validated.

mod backend;
mod cidr;
mod claim;
mod cloud;
mod cluster;
mod consumer;
mod desired;
mod dns_name;
mod fault;
mod flow;
mod flow_log;
mod ids;
mod ip_type;
mod log_levels;
mod names;
mod node_address;
mod origin;
mod pace;
mod port;
mod provider;
mod stand_in;
mod target;
mod text;
mod units;

pub use backend::{BackendScheme, BackendUrl};
pub use cidr::{CidrSet, is_reserved};
pub use claim::{ClaimId, Lease};
pub use cloud::{Cloud, MAXIMUM_CLOUD_TARGET_LIMIT};
pub use cluster::{AccessList, BiConnector, Cluster, ClusterKind, ConnectionLimit, NamedStrings, Naming, Node, Tier};
pub use consumer::{
    Direction, EndpointAddress, EndpointState, InterfaceEndpoint, PortRule, PrivateZone, SecurityGroup, Subnet, Vpc,
    ZoneRecord,
};
pub use desired::Desired;
pub use dns_name::DnsName;
pub use fault::{
    DnsFailure, Fault, FaultDirection, FaultKind, FaultScope, SCOPE_KEYS, Share, check_fault, rename_former_fault_keys,
};
pub use flow::{ConnectError, DrainReason, FlowEnd, FlowId, Refusal, RefusalMode, Side};
pub use flow_log::{FlowLogField, FlowLogFormat};
pub use ids::{
    AppId, EniId, GatewayId, ProjectId, SecurityGroupId, SecurityRuleId, SubnetId, VpcId, VpceId, VpceServiceId,
};
pub(crate) use ids::{derived_digits, is_prefixed_hex};
pub use ip_type::{DnsRecordIpType, IpAddressType, IpFamily};
pub use log_levels::{LOG_ITSELF, LOG_MODULES, LOG_RECORDS, LogLevels};
pub(crate) use names::edits;
pub use names::{ClusterName, Label, Region, ServiceName, Zone};
pub use node_address::NodeAddress;
pub use origin::Origin;
pub use pace::Pace;
pub(crate) use port::not_a_port;
pub use port::{ListenerPort, PortRange, TargetPort};
pub use provider::{
    App, AppEndpoint, AppEndpointKind, AppService, Attributes, DEFAULT_TARGET_LIMIT, DeploymentModel, EndpointService,
    HealthCheck, HealthProtocol, MAXIMUM_REMOTE_REGIONS, MAXIMUM_TARGET_LIMIT, Minimum, Project, StatusRange,
};
pub use stand_in::{StandInCommand, StandInMember, StandInRefusal, StandInState};
pub use target::{Health, TargetId, TargetState};
pub use text::ParseTextError;
pub(crate) use text::text_serde;
pub use units::{HumanDuration, HumanSize, rename_former_time};

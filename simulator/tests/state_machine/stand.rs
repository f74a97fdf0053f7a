//! A cloud with its clock in the test's hand.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use simulator::{
    cloud::{Call, Cloud, Quotas, Settings},
    params::{Params, decode_query},
    profile::Profile,
    topology::Topology,
};

/// A cloud and its clock.
pub(super) struct Stand {
    pub(super) cloud: Cloud,
    pub(super) key: String,
    pub(super) now: Timestamp,
}

impl Stand {
    pub(super) fn new(profile: Profile) -> Self {
        Self::seeded(profile, 7)
    }

    pub(super) fn seeded(profile: Profile, seed: u64) -> Self {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let settings = Settings {
            topology: Topology::built_in(),
            pace: profile.pace(),
            quotas: Quotas::default(),
            seed,
            start: now,
        };
        let cloud = Cloud::new(settings);
        let key = cloud.first_access_key().unwrap().id.clone();
        Self { cloud, key, now }
    }

    pub(super) fn pass_time(&mut self, ms: i64) {
        self.now += SignedDuration::from_millis(ms);
        self.cloud.advance_to(self.now);
    }

    pub(super) fn call(&mut self, action: &str, query: &str) -> Result<Value, String> {
        let version = match action {
            "DescribeNetworkInterfaces" | "DescribeSecurityGroupAttribute" => "2014-05-26",
            "AssumeRole" | "AssumeRoleWithOIDC" | "GetCallerIdentity" => "2015-04-01",
            _ => "2016-04-28",
        };
        let params = Params::new(decode_query(format!("RegionId=cn-hangzhou&{query}").as_bytes()));
        let caller = (action != "AssumeRoleWithOIDC").then_some(self.key.as_str());
        let reply =
            self.cloud.handle_call(&Call { action, version, params: &params, caller }, self.now);
        reply.outcome.map_err(|refusal| refusal.code)
    }

    /// The same, after everything before has settled.
    pub(super) fn call_after_settling(
        &mut self,
        action: &str,
        query: &str,
    ) -> Result<Value, String> {
        self.pass_time(10_000);
        self.call(action, query)
    }

    pub(super) fn gateway(&self) -> (String, String, String, String) {
        let gateway = &self.cloud.gateway_summary()[0];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let eip = &gateway["eips"][0];
        (
            text(&gateway["natGatewayId"]),
            text(&gateway["forwardTableId"]),
            text(&eip["allocationId"]),
            text(&eip["ipAddress"]),
        )
    }

    pub(super) fn entry(
        &self,
        external_port: &str,
        internal_ip: &str,
        internal_port: &str,
        protocol: &str,
    ) -> String {
        let (_, table, _, address) = self.gateway();
        format!(
            "ForwardTableId={table}&ExternalIp={address}&ExternalPort={external_port}&InternalIp={internal_ip}\
             &InternalPort={internal_port}&IpProtocol={protocol}"
        )
    }

    pub(super) fn create(
        &mut self,
        external_port: &str,
        internal_ip: &str,
        internal_port: &str,
        protocol: &str,
    ) -> Result<Value, String> {
        let query = self.entry(external_port, internal_ip, internal_port, protocol);
        self.call_after_settling("CreateForwardEntry", &query)
    }

    pub(super) fn allocate(&mut self) -> String {
        self.call_after_settling("AllocateEipAddress", "").unwrap()["AllocationId"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(super) fn eip(&mut self, id: &str) -> Value {
        self.call("DescribeEipAddresses", &format!("AllocationId={id}")).unwrap()["EipAddresses"]["EipAddress"][0].clone()
    }

    pub(super) fn interface(&mut self, address: &str) -> Option<Value> {
        let query = format!("PrivateIpAddress.1={address}");
        let found = self.call("DescribeNetworkInterfaces", &query).unwrap();
        found["NetworkInterfaceSets"]["NetworkInterfaceSet"].get(0).cloned()
    }

    /// Asks twice, as a new pod's address takes a moment to appear.
    pub(super) fn interface_id(&mut self, address: &str) -> String {
        self.interface(address);
        self.pass_time(2000);
        self.interface(address).unwrap()["NetworkInterfaceId"].as_str().unwrap().to_owned()
    }

    pub(super) fn bind(&mut self, id: &str, address: &str) -> Result<Value, String> {
        let interface = self.interface_id(address);
        let query = format!(
            "AllocationId={id}&InstanceId={interface}&InstanceType=NetworkInterface&PrivateIpAddress={address}"
        );
        self.call_after_settling("AssociateEipAddress", &query)
    }
}

/// The code of a refusal.
pub(super) fn refusal_code<T: std::fmt::Debug>(outcome: Result<T, String>) -> String {
    outcome.unwrap_err()
}

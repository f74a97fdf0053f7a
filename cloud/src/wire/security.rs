//! Answers about security groups.

use super::{Chain, list, number, present, text};
use crate::network::SecurityRule;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct SecurityGroup {
    #[serde(default, deserialize_with = "text")]
    next_token: String,
    #[serde(deserialize_with = "list")]
    permissions: Vec<WireRule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireRule {
    #[serde(deserialize_with = "text")]
    policy: String,
    #[serde(deserialize_with = "text")]
    ip_protocol: String,
    #[serde(default, deserialize_with = "text")]
    port_range: String,
    #[serde(default, deserialize_with = "number")]
    priority: u32,
    #[serde(default, deserialize_with = "text")]
    source_cidr_ip: String,
}

impl Chain for SecurityGroup {
    type Item = SecurityRule;

    fn next(&mut self) -> Option<String> {
        present(std::mem::take(&mut self.next_token))
    }

    fn items(self) -> Result<Vec<SecurityRule>, String> {
        let fact = |rule: WireRule| SecurityRule {
            accept: rule.policy.eq_ignore_ascii_case("accept"),
            ip_protocol: rule.ip_protocol.to_ascii_uppercase(),
            port_range: rule.port_range,
            priority: rule.priority,
            source_cidr: rule.source_cidr_ip,
        };
        Ok(self.permissions.into_iter().map(fact).collect())
    }
}

//! The one security group every interface is in; the console may replace its rules.

use serde_json::{Value, json};

use super::{Cloud, Outcome, dispatch::Context, interfaces::SECURITY_GROUP, tags::after_token};
use crate::refusal::Refusal;

/// Fields every rule has; a rule that does not set one has it empty.
const RULE_FIELDS: [&str; 26] = [
    "Direction",
    "IpProtocol",
    "PortRange",
    "SourcePortRange",
    "Policy",
    "Priority",
    "SourceCidrIp",
    "Ipv6SourceCidrIp",
    "SourceGroupId",
    "SourceGroupName",
    "SourceGroupOwnerAccount",
    "SourcePrefixListId",
    "SourcePrefixListName",
    "PortRangeListId",
    "PortRangeListName",
    "DestCidrIp",
    "Ipv6DestCidrIp",
    "DestGroupId",
    "DestGroupName",
    "DestGroupOwnerAccount",
    "DestPrefixListId",
    "DestPrefixListName",
    "NicType",
    "SecurityGroupRuleId",
    "Description",
    "CreateTime",
];

/// Anything may come in, anything may go out.
pub(super) fn open_to_all() -> Vec<Value> {
    let rule = |direction: &str, source: &str, target: &str| {
        complete_rule(&json!({
            "Direction": direction, "IpProtocol": "ALL", "PortRange": "-1/-1", "Policy": "Accept", "Priority": "1",
            "SourceCidrIp": source, "DestCidrIp": target,
        }))
    };
    vec![rule("ingress", "0.0.0.0/0", ""), rule("egress", "", "0.0.0.0/0")]
}

fn complete_rule(rule: &Value) -> Value {
    let field = |name: &&str| {
        ((*name).to_owned(), rule.get(*name).cloned().unwrap_or_else(|| Value::from("")))
    };
    Value::Object(RULE_FIELDS.iter().map(field).collect())
}

impl Cloud {
    /// Replaces the rules; fields as in the API's `Permission`.
    pub fn set_permissions(&mut self, permissions: &[Value]) {
        self.permissions = permissions.iter().map(complete_rule).collect();
    }

    pub(super) fn describe_security_group_attribute(&mut self, context: &Context<'_>) -> Outcome {
        let params = context.params;
        let id = params.get_required("SecurityGroupId")?;
        if !id.starts_with("sg-") {
            return Err(Refusal::bad_request(
                "InvalidSecurityGroupId.Malformed",
                "The specified SecurityGroupId is malformed.",
            ));
        }
        if id != SECURITY_GROUP {
            return Err(Refusal::not_found(
                "InvalidSecurityGroupId.NotFound",
                "The specified SecurityGroupId does not exist.",
            ));
        }
        let direction = params.get("Direction").filter(|direction| *direction != "all");
        let shown = self
            .permissions
            .iter()
            .filter(|rule| direction.is_none_or(|wanted| rule["Direction"] == wanted));
        let size = params.get_number("MaxResults")?.unwrap_or(500).clamp(10, 1000) as usize;
        let (rules, next) = after_token(shown.cloned().collect(), params, size)?;
        Ok(json!({
            "RegionId": self.topology.region, "VpcId": self.topology.vpc.id, "SecurityGroupId": SECURITY_GROUP,
            "SecurityGroupName": "nodes", "Description": "", "InnerAccessPolicy": "Accept", "NextToken": next,
            "SnapshotPolicyIds": {"SnapshotPolicyId": []},
            "Permissions": {"Permission": rules},
        }))
    }
}

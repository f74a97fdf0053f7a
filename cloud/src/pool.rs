//! Changes that belong to no pod: filling a gateway's pool of addresses, and marking whose a gateway is.

use crate::Cloud;
use crate::error::Error;
use crate::params::Params;
use crate::transport::vpc;
use crate::wire::Plain;
use std::collections::BTreeMap;
use waygate_core::ids::{AllocationId, NatGatewayId};

/// Sent once, like every change, and within one call's deadline.
impl Cloud {
    /// Sets tags on up to 50 resources of one type, such as `EIP` or `NATGATEWAY`. Repeating it changes nothing.
    pub async fn tag_resources(&self, resource_type: &str, ids: &[&str], tags: &BTreeMap<String, String>) -> Result<(), Error> {
        let params = Params::default().with("ResourceType", resource_type).list("ResourceId", ids).tags(tags);
        self.0.transport.call::<Plain>(vpc("TagResources"), params, self.due()).await.map(drop)
    }

    /// Binds up to 50 EIPs to a NAT gateway in one call.
    pub async fn bind_to_gateway(&self, gateway: &NatGatewayId, eips: &[AllocationId], token: &str) -> Result<(), Error> {
        let params = Params::default()
            .with("BindedInstanceId", gateway)
            .with("BindedInstanceType", "Nat")
            .list("InstanceIds", eips)
            .with("ClientToken", token);
        self.0.transport.call::<Plain>(vpc("AssociateEipAddressBatch"), params, self.due()).await.map(drop)
    }
}

//! Changes that belong to no pod: filling a gateway's pool of addresses, and marking whose a gateway is.

use crate::Cloud;
use crate::error::Error;
use crate::params::Params;
use crate::transport::{unreadable, vpc};
use crate::wire::Plain;
use crate::wire::eip::Allocated;
use reqwest::StatusCode;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use waygate_core::change::Answer;
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

    /// Buys back one certain address that the account held in the last days. It has no name and no tags beside `tags`.
    pub async fn allocate_address(&self, ip: Ipv4Addr, tags: &BTreeMap<String, String>, token: &str) -> Result<Answer, Error> {
        let action = vpc("AllocateEipAddressPro");
        let params = Params::default().with("IpAddress", ip).tags(tags).with("ClientToken", token);
        let read = self.0.transport.call::<Allocated>(action, params, self.due()).await?;
        read.value.answer().map_err(|detail| unreadable(action.name, StatusCode::OK, detail))
    }
}

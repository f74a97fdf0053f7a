//! What is read in batches, and how: one [`Source`] a kind of question.

use crate::batch::{Fetched, Source};
use crate::error::Error;
use crate::gate::Gates;
use crate::pages::{Listing, chain};
use crate::params::Params;
use crate::transport::{Action, Permit, Transport, ecs, vpc};
use crate::wire::eip::Eips;
use crate::wire::eni::{Interface, Interfaces};
use crate::wire::nat::{ForwardEntries, NatGateways};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::time::Instant;
use waygate_core::facts::{Eip, ForwardEntry, NatGateway};
use waygate_core::ids::{AllocationId, EniId, ForwardEntryId, ForwardTableId, NatGatewayId, VpcId};

const DESCRIBE_EIPS: Action = vpc("DescribeEipAddresses");
const DESCRIBE_GATEWAYS: Action = vpc("DescribeNatGateways");
const DESCRIBE_ENTRIES: Action = vpc("DescribeForwardTableEntries");
const DESCRIBE_INTERFACES: Action = ecs("DescribeNetworkInterfaces");

/// EIPs, as many to a page as the API gives.
pub(crate) const EIPS: Listing<AllocationId, Eips> =
    Listing { action: DESCRIBE_EIPS, page_size: 100, key: |eip| eip.allocation_id.clone() };
const GATEWAYS: Listing<NatGatewayId, NatGateways> =
    Listing { action: DESCRIBE_GATEWAYS, page_size: 50, key: |gateway| gateway.nat_gateway_id.clone() };
const ENTRIES: Listing<ForwardEntryId, ForwardEntries> =
    Listing { action: DESCRIBE_ENTRIES, page_size: 50, key: |entry| entry.entry_id.clone() };

/// How many IDs or addresses one DescribeEipAddresses takes.
pub(crate) const EIPS_A_CALL: usize = 50;
/// How many addresses or IDs one DescribeNetworkInterfaces takes.
const INTERFACES_A_CALL: usize = 100;

/// EIPs by ID.
pub(crate) struct EipsById(pub(crate) Arc<Transport>);

impl Source for EipsById {
    type Key = AllocationId;
    type Value = Eip;
    type Permit = Permit;

    fn action(&self) -> &'static str {
        DESCRIBE_EIPS.name
    }

    fn most_keys(&self) -> usize {
        EIPS_A_CALL
    }

    async fn permit(&self, deadline: Instant) -> Result<Permit, Error> {
        self.0.permit(DESCRIBE_EIPS, deadline).await
    }

    async fn fetch(&self, permit: Permit, keys: Vec<AllocationId>, deadline: Instant) -> Fetched<Self> {
        let ids: Vec<&str> = keys.iter().map(AllocationId::as_str).collect();
        let read = EIPS.all(&self.0, permit, Params::default().with("AllocationId", ids.join(",")), deadline).await?;
        Ok(read.map(|eips| eips.into_iter().map(|eip| (eip.allocation_id.clone(), eip)).collect()))
    }
}

/// Interfaces in use in a VPC, by any of their private addresses that the API's filter knows.
pub(crate) struct InterfacesByAddress {
    pub(crate) transport: Arc<Transport>,
    pub(crate) vpc: VpcId,
}

impl Source for InterfacesByAddress {
    type Key = Ipv4Addr;
    type Value = Interface;
    type Permit = Permit;

    fn action(&self) -> &'static str {
        DESCRIBE_INTERFACES.name
    }

    fn most_keys(&self) -> usize {
        INTERFACES_A_CALL
    }

    async fn permit(&self, deadline: Instant) -> Result<Permit, Error> {
        self.transport.permit(DESCRIBE_INTERFACES, deadline).await
    }

    async fn fetch(&self, permit: Permit, keys: Vec<Ipv4Addr>, deadline: Instant) -> Fetched<Self> {
        let params = in_use(&self.vpc).list("PrivateIpAddress", &keys);
        let read = chain::<Interfaces>(&self.transport, permit, DESCRIBE_INTERFACES, params, deadline).await?;
        Ok(read.map(|interfaces| {
            let owner = |ip: Ipv4Addr| interfaces.iter().find(|interface| interface.owns(ip)).cloned();
            keys.into_iter().filter_map(|ip| Some((ip, owner(ip)?))).collect()
        }))
    }
}

/// Interfaces by ID.
pub(crate) struct InterfacesById {
    pub(crate) transport: Arc<Transport>,
    pub(crate) vpc: VpcId,
}

impl Source for InterfacesById {
    type Key = EniId;
    type Value = Interface;
    type Permit = Permit;

    fn action(&self) -> &'static str {
        DESCRIBE_INTERFACES.name
    }

    fn most_keys(&self) -> usize {
        INTERFACES_A_CALL
    }

    async fn permit(&self, deadline: Instant) -> Result<Permit, Error> {
        self.transport.permit(DESCRIBE_INTERFACES, deadline).await
    }

    async fn fetch(&self, permit: Permit, keys: Vec<EniId>, deadline: Instant) -> Fetched<Self> {
        let params = in_use(&self.vpc).list("NetworkInterfaceId", &keys);
        let read = chain::<Interfaces>(&self.transport, permit, DESCRIBE_INTERFACES, params, deadline).await?;
        Ok(read.map(|interfaces| interfaces.into_iter().map(|interface| (interface.eni.eni_id.clone(), interface)).collect()))
    }
}

/// Every interface in use in the VPC that holds prefixes.
pub(crate) struct InterfacesWithPrefixes {
    pub(crate) transport: Arc<Transport>,
    pub(crate) vpc: VpcId,
}

impl Source for InterfacesWithPrefixes {
    type Key = ();
    type Value = Arc<Vec<Interface>>;
    type Permit = Permit;

    fn action(&self) -> &'static str {
        DESCRIBE_INTERFACES.name
    }

    fn most_keys(&self) -> usize {
        usize::MAX
    }

    async fn permit(&self, deadline: Instant) -> Result<Permit, Error> {
        self.transport.permit(DESCRIBE_INTERFACES, deadline).await
    }

    async fn fetch(&self, permit: Permit, _: Vec<()>, deadline: Instant) -> Fetched<Self> {
        let read = chain::<Interfaces>(&self.transport, permit, DESCRIBE_INTERFACES, in_use(&self.vpc), deadline).await?;
        Ok(read.map(|mut interfaces| {
            interfaces.retain(|interface| !interface.prefixes.is_empty());
            HashMap::from([((), Arc::new(interfaces))])
        }))
    }
}

fn in_use(vpc: &VpcId) -> Params {
    Params::default().with("VpcId", vpc).with("Status", "InUse").with("MaxResults", 500)
}

/// One NAT gateway.
pub(crate) struct Gateway {
    pub(crate) transport: Arc<Transport>,
    pub(crate) id: NatGatewayId,
}

impl Source for Gateway {
    type Key = ();
    type Value = NatGateway;
    type Permit = Permit;

    fn action(&self) -> &'static str {
        DESCRIBE_GATEWAYS.name
    }

    fn most_keys(&self) -> usize {
        usize::MAX
    }

    async fn permit(&self, deadline: Instant) -> Result<Permit, Error> {
        self.transport.permit(DESCRIBE_GATEWAYS, deadline).await
    }

    async fn fetch(&self, permit: Permit, _: Vec<()>, deadline: Instant) -> Fetched<Self> {
        let read = GATEWAYS.all(&self.transport, permit, Params::default().with("NatGatewayId", &self.id), deadline).await?;
        Ok(read.map(|gateways| gateways.into_iter().filter(|gateway| gateway.nat_gateway_id == self.id).map(|it| ((), it)).collect()))
    }
}

/// Where DNAT entries are listed: a gateway has one table, but a change names the table and a reader the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Gateway(NatGatewayId),
    Table(ForwardTableId),
}

/// Every DNAT entry of one gateway.
pub(crate) struct Forwards {
    pub(crate) transport: Arc<Transport>,
    pub(crate) scope: Scope,
    pub(crate) gates: Arc<Gates>,
}

impl Source for Forwards {
    type Key = ();
    type Value = Arc<Vec<ForwardEntry>>;
    type Permit = Permit;

    fn action(&self) -> &'static str {
        DESCRIBE_ENTRIES.name
    }

    fn most_keys(&self) -> usize {
        usize::MAX
    }

    async fn permit(&self, deadline: Instant) -> Result<Permit, Error> {
        self.transport.permit(DESCRIBE_ENTRIES, deadline).await
    }

    async fn fetch(&self, permit: Permit, _: Vec<()>, deadline: Instant) -> Fetched<Self> {
        let params = match &self.scope {
            Scope::Gateway(gateway) => Params::default().with("NatGatewayId", gateway),
            Scope::Table(table) => Params::default().with("ForwardTableId", table),
        };
        let read = ENTRIES.all(&self.transport, permit, params, deadline).await?;
        self.gates.seen(&self.scope, &read);
        Ok(read.map(|entries| HashMap::from([((), Arc::new(entries))])))
    }
}

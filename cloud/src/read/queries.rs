//! The queries that are batched, one for each kind of read.

use super::batch::{BatchSource, Batcher, Fetched};
use super::pages::{Listing, list_chain};
use crate::error::{Class, Error};
use crate::gateway::limiter::GatewayLimiter;
use crate::http::params::Params;
use crate::transport::{Action, Permit, Read, Transport, ecs_action, vpc_action};
use crate::wire::eip::Eips;
use crate::wire::eni::{Interface, Interfaces};
use crate::wire::nat::{ForwardEntries, NatGateways};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waygate_core::cloud_facts::{Eip, ForwardEntry, NatGateway};
use waygate_core::ids::{AllocationId, EniId, ForwardEntryId, NatGatewayId, VpcId};
use waygate_core::ownership::TAG_POOL;

const DESCRIBE_EIPS: Action = vpc_action("DescribeEipAddresses");
const DESCRIBE_GATEWAYS: Action = vpc_action("DescribeNatGateways");
const DESCRIBE_ENTRIES: Action = vpc_action("DescribeForwardTableEntries");
const DESCRIBE_INTERFACES: Action = ecs_action("DescribeNetworkInterfaces");

/// The list of EIPs, with the API's maximum page size.
pub(crate) const EIPS: Listing<AllocationId, Eips> =
    Listing { action: DESCRIBE_EIPS, page_size: 100, key: |eip| eip.allocation_id.clone() };
const GATEWAYS: Listing<NatGatewayId, NatGateways> = Listing {
    action: DESCRIBE_GATEWAYS,
    page_size: 50,
    key: |gateway| gateway.nat_gateway_id.clone(),
};
pub(crate) const ENTRIES: Listing<ForwardEntryId, ForwardEntries> =
    Listing { action: DESCRIBE_ENTRIES, page_size: 50, key: |entry| entry.entry_id.clone() };

/// Most IDs or addresses in one DescribeEipAddresses.
pub(crate) const MAX_EIPS_PER_CALL: usize = 50;
/// Most addresses or IDs in one DescribeNetworkInterfaces.
const MAX_INTERFACES_PER_CALL: usize = 100;

/// A kind of read, and the number of keys that one call reads.
pub(crate) trait Query: Send + Sync + Sized + 'static {
    /// Identifies a value; `()` where a call reads one value.
    type Key: Clone + Eq + Hash + Send + Sync;
    /// The fact read for a key; cloned for each waiter.
    type Value: Clone + Send + Sync;
    /// The API action called.
    const ACTION: Action;
    /// Most keys of one call.
    const MOST_KEYS: usize;

    /// Reads all `keys`; `permit` is for the first call.
    fn run_query(
        &self,
        transport: &Transport,
        permit: Permit,
        keys: Vec<Self::Key>,
        deadline: Instant,
    ) -> impl Future<Output = Fetched<QuerySource<Self>>> + Send;
}

/// A query with the transport that sends it.
pub(crate) struct QuerySource<Q> {
    transport: Arc<Transport>,
    query: Q,
}

impl<Q: Query> QuerySource<Q> {
    /// A batcher of this query, see [`Batcher::new`].
    pub(crate) fn new_batcher(
        transport: &Arc<Transport>,
        query: Q,
        max_in_flight: usize,
        timeout: Duration,
    ) -> Batcher<Self> {
        Batcher::new(Self { transport: Arc::clone(transport), query }, max_in_flight, timeout)
    }
}

impl<Q: Query> BatchSource for QuerySource<Q> {
    type Key = Q::Key;
    type Value = Q::Value;
    type Permit = Permit;

    fn action(&self) -> &'static str {
        Q::ACTION.name
    }

    fn most_keys(&self) -> usize {
        Q::MOST_KEYS
    }

    async fn acquire_permit(&self, deadline: Instant) -> Result<Permit, Error> {
        self.transport.acquire_permit(Q::ACTION, deadline).await
    }

    async fn fetch_values(
        &self,
        permit: Permit,
        keys: Vec<Q::Key>,
        deadline: Instant,
    ) -> Fetched<Self> {
        self.query.run_query(&self.transport, permit, keys, deadline).await
    }
}

/// Reads EIPs by ID, 50 in a call.
pub(crate) struct EipsById;

impl Query for EipsById {
    type Key = AllocationId;
    type Value = Eip;
    const ACTION: Action = DESCRIBE_EIPS;
    const MOST_KEYS: usize = MAX_EIPS_PER_CALL;

    async fn run_query(
        &self,
        transport: &Transport,
        permit: Permit,
        keys: Vec<AllocationId>,
        deadline: Instant,
    ) -> Fetched<QuerySource<Self>> {
        let ids: Vec<&str> = keys.iter().map(AllocationId::as_str).collect();
        let read = EIPS
            .list_all(
                transport,
                permit,
                Params::default().with("AllocationId", ids.join(",")),
                deadline,
            )
            .await?;
        Ok(read.map(|eips| eips.into_iter().map(|eip| (eip.allocation_id.clone(), eip)).collect()))
    }
}

/// Reads the EIPs that operators tagged into a pool: one call per pool for all its waiters.
pub(crate) struct EipsByPool;

impl Query for EipsByPool {
    type Key = String;
    type Value = Arc<Vec<Eip>>;
    const ACTION: Action = DESCRIBE_EIPS;
    const MOST_KEYS: usize = usize::MAX;

    async fn run_query(
        &self,
        transport: &Transport,
        permit: Permit,
        pools: Vec<String>,
        deadline: Instant,
    ) -> Fetched<QuerySource<Self>> {
        let (mut first, mut all) =
            (Some(permit), Read { value: HashMap::new(), began: Instant::now() });
        for pool in pools {
            let permit = match first.take() {
                Some(permit) => permit,
                None => transport.acquire_permit(DESCRIBE_EIPS, deadline).await?,
            };
            let read = EIPS
                .list_all(
                    transport,
                    permit,
                    Params::default().with_tags([(&TAG_POOL.to_owned(), &pool)]),
                    deadline,
                )
                .await?;
            all.value.insert(pool, Arc::new(read.value));
        }
        Ok(all)
    }
}

/// Reads interfaces in use in a VPC by primary or secondary address, which the API's filter finds.
pub(crate) struct InterfacesByAddress(pub(crate) VpcId);

impl Query for InterfacesByAddress {
    type Key = Ipv4Addr;
    type Value = Interface;
    const ACTION: Action = DESCRIBE_INTERFACES;
    const MOST_KEYS: usize = MAX_INTERFACES_PER_CALL;

    async fn run_query(
        &self,
        transport: &Transport,
        permit: Permit,
        keys: Vec<Ipv4Addr>,
        deadline: Instant,
    ) -> Fetched<QuerySource<Self>> {
        let read = list_interfaces(
            transport,
            permit,
            in_use(&self.0).with_list("PrivateIpAddress", &keys),
            deadline,
        )
        .await?;
        Ok(read.map(|interfaces| {
            let owner =
                |ip: Ipv4Addr| interfaces.iter().find(|interface| interface.owns(ip)).cloned();
            keys.into_iter().filter_map(|ip| Some((ip, owner(ip)?))).collect()
        }))
    }
}

/// Reads interfaces in use in a VPC by ID.
pub(crate) struct InterfacesById(pub(crate) VpcId);

impl Query for InterfacesById {
    type Key = EniId;
    type Value = Interface;
    const ACTION: Action = DESCRIBE_INTERFACES;
    const MOST_KEYS: usize = MAX_INTERFACES_PER_CALL;

    async fn run_query(
        &self,
        transport: &Transport,
        permit: Permit,
        keys: Vec<EniId>,
        deadline: Instant,
    ) -> Fetched<QuerySource<Self>> {
        let read = list_interfaces(
            transport,
            permit,
            in_use(&self.0).with_list("NetworkInterfaceId", &keys),
            deadline,
        )
        .await?;
        Ok(read.map(|interfaces| {
            interfaces
                .into_iter()
                .map(|interface| (interface.eni.eni_id.clone(), interface))
                .collect()
        }))
    }
}

/// Lists the interfaces in use in a VPC that have prefixes.
pub(crate) struct InterfacesWithPrefixes(pub(crate) VpcId);

impl Query for InterfacesWithPrefixes {
    type Key = ();
    type Value = Arc<Vec<Interface>>;
    const ACTION: Action = DESCRIBE_INTERFACES;
    const MOST_KEYS: usize = usize::MAX;

    async fn run_query(
        &self,
        transport: &Transport,
        permit: Permit,
        _: Vec<()>,
        deadline: Instant,
    ) -> Fetched<QuerySource<Self>> {
        let read = list_interfaces(transport, permit, in_use(&self.0), deadline).await?;
        Ok(read.map(|mut interfaces| {
            interfaces.retain(|interface| !interface.prefixes.is_empty());
            HashMap::from([((), Arc::new(interfaces))])
        }))
    }
}

fn in_use(vpc: &VpcId) -> Params {
    Params::default().with("VpcId", vpc).with("Status", "InUse").with("MaxResults", 500)
}

async fn list_interfaces(
    transport: &Transport,
    permit: Permit,
    params: Params,
    deadline: Instant,
) -> Result<Read<Vec<Interface>>, Error> {
    list_chain::<Interfaces>(transport, permit, DESCRIBE_INTERFACES, params, deadline).await
}

/// Reads one NAT gateway with its EIPs.
pub(crate) struct GatewayById(pub(crate) NatGatewayId);

impl Query for GatewayById {
    type Key = ();
    type Value = NatGateway;
    const ACTION: Action = DESCRIBE_GATEWAYS;
    const MOST_KEYS: usize = usize::MAX;

    async fn run_query(
        &self,
        transport: &Transport,
        permit: Permit,
        _: Vec<()>,
        deadline: Instant,
    ) -> Fetched<QuerySource<Self>> {
        let read = GATEWAYS
            .list_all(transport, permit, Params::default().with("NatGatewayId", &self.0), deadline)
            .await?;
        Ok(read.map(|gateways| {
            gateways
                .into_iter()
                .filter(|gateway| gateway.nat_gateway_id == self.0)
                .map(|it| ((), it))
                .collect()
        }))
    }
}

/// Lists all forward entries of one gateway, and passes each list to the gateway's limiter.
pub(crate) struct EntriesOfGateway {
    pub(crate) gateway: NatGatewayId,
    pub(crate) limiter: Arc<GatewayLimiter>,
}

impl Query for EntriesOfGateway {
    type Key = ();
    type Value = Arc<Vec<ForwardEntry>>;
    const ACTION: Action = DESCRIBE_ENTRIES;
    const MOST_KEYS: usize = usize::MAX;

    async fn run_query(
        &self,
        transport: &Transport,
        permit: Permit,
        _: Vec<()>,
        deadline: Instant,
    ) -> Fetched<QuerySource<Self>> {
        let params = Params::default().with("NatGatewayId", &self.gateway);
        let began = Instant::now();
        let read = match ENTRIES.list_all(transport, permit, params, deadline).await {
            // A deleted gateway has no entries. An error instead would keep the leases with ports
            // there from giving the ports back.
            Err(error) if error.class() == Class::NotFound => Read { value: Vec::new(), began },
            listed => listed?,
        };
        let read = read.map(Arc::new);
        self.limiter.record_list(&read);
        Ok(read.map(|entries| HashMap::from([((), entries)])))
    }
}

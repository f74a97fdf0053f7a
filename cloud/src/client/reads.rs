//! The client's reads.

use super::Cloud;
use crate::error::Error;
use crate::gateway::entry_cache::Entries;
use crate::http::params::Params;
use crate::network::{
    Identity, ResourceTag, RouteEntry, RouteTable, SecurityRule, SnatEntry, VSwitch, Vpc,
};
use crate::read::pages::{Listing, PageTimes, list_chain};
use crate::read::queries::{
    EIPS, ENTRIES, EntriesOfGateway, GatewayById, MAX_EIPS_PER_CALL, QuerySource,
};
use crate::transport::{Action, Read, ecs_action, sts_action, vpc_action};
use crate::wire::eip::Eips;
use crate::wire::nat::SnatEntries;
use crate::wire::network::{RouteEntries, RouteTables, VSwitches, Vpcs};
use crate::wire::security::SecurityGroup;
use crate::wire::sts::CallerIdentity;
use crate::wire::tags::TagResources;
use crate::wire::{Chain, Page};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::Instant;
use waygate_core::cloud_facts::{Eip, Eni, ForwardEntry, NatGateway};
use waygate_core::ids::{AllocationId, EniId, ForwardEntryId, NatGatewayId, VSwitchId, VpcId};

/// Items on a page of most lists, their API's maximum.
const PAGE_SIZE: u32 = 50;

/// Reads on which leases depend. Batched: many waiters share one call.
impl Cloud {
    /// The EIP, or `None` where the cloud says that no such EIP exists.
    pub async fn eip_by_id(&self, id: &AllocationId) -> Result<Read<Option<Eip>>, Error> {
        self.0.eips.read_key(id.clone()).await
    }

    /// Every EIP that carries all of `tags`.
    pub async fn eips_by_tags(
        &self,
        tags: &BTreeMap<String, String>,
    ) -> Result<Read<Vec<Eip>>, Error> {
        self.list_pages(&EIPS, Params::default().with_tags(tags)).await
    }

    /// The EIPs that operators tagged into a pool (`waygate.dev/eip-pool`).
    pub async fn eips_of_pool(&self, pool: &str) -> Result<Read<Vec<Eip>>, Error> {
        let read = self.0.pools.read_key(pool.to_owned()).await?;
        Ok(read.map(|eips| eips.map(|eips| eips.to_vec()).unwrap_or_default()))
    }

    /// The EIPs that have one of these addresses.
    pub async fn eips_by_address(&self, ips: &[Ipv4Addr]) -> Result<Read<Vec<Eip>>, Error> {
        let mut all = Read { value: Vec::new(), began: Instant::now() };
        for (index, ips) in ips.chunks(MAX_EIPS_PER_CALL).enumerate() {
            let words: Vec<String> = ips.iter().map(Ipv4Addr::to_string).collect();
            let part = self
                .list_pages(&EIPS, Params::default().with("EipAddress", words.join(",")))
                .await?;
            // The result is as old as the oldest of its parts.
            if index == 0 {
                all.began = part.began;
            }
            all.value.extend(part.value);
        }
        Ok(all)
    }

    /// Asks for the first EIP, to learn within `deadline` whether the cloud answers again; see
    /// [`Cloud::is_silent_for`].
    pub async fn probe(&self, deadline: Duration) -> Result<(), Error> {
        let params = Params::default().with("PageNumber", 1).with("PageSize", 1);
        let read = self.0.transport.call_once(EIPS.action, params, Instant::now() + deadline).await;
        read.map(|_: Read<Eips>| ())
    }

    /// The interface in the VPC that owns `ip` as primary or secondary address or out of a prefix;
    /// `None` while the cloud shows no such interface.
    pub async fn eni_by_private_ip(&self, ip: Ipv4Addr) -> Result<Read<Option<Eni>>, Error> {
        self.0.interfaces.find_owner(ip).await
    }

    /// The NAT gateway, or `None` where the cloud says that no such gateway exists.
    pub async fn nat_gateway(&self, id: &NatGatewayId) -> Result<Read<Option<NatGateway>>, Error> {
        let make = || {
            QuerySource::new_batcher(&self.0.transport, GatewayById(id.clone()), 1, self.0.deadline)
        };
        self.0.gateways.get(id, make).read_key(()).await
    }

    /// Every forward entry of the gateway, each once; an empty list for a gateway that no longer
    /// exists. Listings run one at a time: callers who ask during a listing share the next.
    pub async fn forward_entries(
        &self,
        gateway: &NatGatewayId,
    ) -> Result<Read<Vec<ForwardEntry>>, Error> {
        let read = self.read_entries(gateway).await?;
        Ok(read.map(|entries| entries.to_vec()))
    }

    /// The forward entries as of `since` or later: the cached list where recent enough, else a new
    /// read. In a cached list only the changes sent through this client's write slots are that
    /// recent; changes by other writers may be missing for some seconds more.
    pub async fn forward_entries_since(
        &self,
        gateway: &NatGatewayId,
        since: Instant,
    ) -> Result<Read<Vec<ForwardEntry>>, Error> {
        let known = self.0.limiters.limiter_of(gateway).lock_entry_cache().list_since(since);
        let read = match known {
            Some(read) => read,
            None => self.read_entries(gateway).await?,
        };
        Ok(read.map(|entries| entries.to_vec()))
    }

    pub(super) async fn read_entries(&self, gateway: &NatGatewayId) -> Result<Entries, Error> {
        let make = || {
            let query = EntriesOfGateway {
                gateway: gateway.clone(),
                limiter: self.0.limiters.limiter_of(gateway),
            };
            QuerySource::new_batcher(&self.0.transport, query, 1, self.0.deadline)
        };
        let read = self.0.forwards.get(gateway, make).read_key(()).await?;
        Ok(read.map(Option::unwrap_or_default))
    }

    /// A forward entry of the gateway, or `None` where the cloud says that no such entry exists.
    pub(super) async fn read_entry(
        &self,
        gateway: &NatGatewayId,
        id: &ForwardEntryId,
    ) -> Result<Read<Option<ForwardEntry>>, Error> {
        let read = self
            .list_pages(
                &ENTRIES,
                Params::default().with("NatGatewayId", gateway).with("ForwardEntryId", id),
            )
            .await?;
        Ok(read.map(|entries| entries.into_iter().find(|entry| entry.entry_id == *id)))
    }
}

/// Lists that are compared with what should be there. They share nothing with the reads of leases
/// but the account's rates.
impl Cloud {
    /// Every EIP of the account in the region; `None` if the pages shifted, so that one may be
    /// missing. Before each page comes a pause of `apart`.
    pub async fn list_eips(&self, apart: Duration) -> Result<Option<Read<Vec<Eip>>>, Error> {
        let pages = PageTimes::Spread { apart, timeout: self.0.deadline };
        EIPS.list_steady(&self.0.transport, &Params::default(), pages).await
    }

    /// Every forward entry of the gateway; `None` and `apart` as for [`Self::list_eips`].
    pub async fn list_entries(
        &self,
        gateway: &NatGatewayId,
        apart: Duration,
    ) -> Result<Option<Read<Vec<ForwardEntry>>>, Error> {
        let pages = PageTimes::Spread { apart, timeout: self.0.deadline };
        let params = Params::default().with("NatGatewayId", gateway);
        ENTRIES.list_steady(&self.0.transport, &params, pages).await
    }
}

/// Reads of the surrounding network: rare, one call each.
impl Cloud {
    /// All SNAT entries of a gateway.
    pub async fn snat_entries(
        &self,
        gateway: &NatGatewayId,
    ) -> Result<Read<Vec<SnatEntry>>, Error> {
        let listing: Listing<_, SnatEntries> = Listing {
            action: vpc_action("DescribeSnatTableEntries"),
            page_size: PAGE_SIZE,
            key: |entry| entry.snat_entry_id.clone(),
        };
        self.list_pages(&listing, Params::default().with("NatGatewayId", gateway)).await
    }

    /// The vSwitch, or `None` where the cloud says that no such vSwitch exists.
    pub async fn vswitch_by_id(&self, id: &VSwitchId) -> Result<Read<Option<VSwitch>>, Error> {
        Ok(self.vswitches_by("VSwitchId", id.as_str()).await?.map(|mut all| all.pop()))
    }

    /// The vSwitches of the cluster's VPC.
    pub async fn vswitches_of_vpc(&self) -> Result<Read<Vec<VSwitch>>, Error> {
        self.vswitches_by("VpcId", self.0.vpc.as_str()).await
    }

    async fn vswitches_by(&self, filter: &str, id: &str) -> Result<Read<Vec<VSwitch>>, Error> {
        let listing: Listing<_, VSwitches> = Listing {
            action: vpc_action("DescribeVSwitches"),
            page_size: PAGE_SIZE,
            key: |vswitch| vswitch.vswitch_id.clone(),
        };
        self.list_pages(&listing, Params::default().with(filter, id)).await
    }

    /// The VPC, or `None` where the cloud says that no such VPC exists.
    pub async fn vpc_by_id(&self, id: &VpcId) -> Result<Read<Option<Vpc>>, Error> {
        let listing: Listing<_, Vpcs> = Listing {
            action: vpc_action("DescribeVpcs"),
            page_size: PAGE_SIZE,
            key: |vpc| vpc.vpc_id.clone(),
        };
        Ok(self
            .list_pages(&listing, Params::default().with("VpcId", id))
            .await?
            .map(|mut all| all.pop()))
    }

    /// The route tables of the cluster's VPC.
    pub async fn route_tables(&self) -> Result<Read<Vec<RouteTable>>, Error> {
        let listing: Listing<_, RouteTables> = Listing {
            action: vpc_action("DescribeRouteTableList"),
            page_size: PAGE_SIZE,
            key: |table| table.route_table_id.clone(),
        };
        self.list_pages(&listing, Params::default().with("VpcId", &self.0.vpc)).await
    }

    /// All routes of a route table.
    pub async fn route_entries(&self, table: &str) -> Result<Read<Vec<RouteEntry>>, Error> {
        let params = Params::default().with("RouteTableId", table).with("MaxResult", 100);
        self.list_by_token::<RouteEntries>(vpc_action("DescribeRouteEntryList"), params).await
    }

    /// The security groups of an interface; `None` where the cloud shows no such interface in use.
    pub async fn security_groups(
        &self,
        interface: &EniId,
    ) -> Result<Read<Option<Vec<String>>>, Error> {
        self.0.interfaces.security_groups(interface).await
    }

    /// The inbound rules of a security group.
    pub async fn inbound_rules(
        &self,
        security_group: &str,
    ) -> Result<Read<Vec<SecurityRule>>, Error> {
        let params = Params::default()
            .with("SecurityGroupId", security_group)
            .with("Direction", "ingress")
            .with("MaxResults", 1000);
        self.list_by_token::<SecurityGroup>(ecs_action("DescribeSecurityGroupAttribute"), params)
            .await
    }

    /// The tags of up to 50 resources of one type, such as `EIP` or `NATGATEWAY`.
    pub async fn resource_tags(
        &self,
        resource_type: &str,
        ids: &[&str],
    ) -> Result<Read<Vec<ResourceTag>>, Error> {
        let params = Params::default()
            .with("ResourceType", resource_type)
            .with_list("ResourceId", ids)
            .with("MaxResults", PAGE_SIZE);
        self.list_by_token::<TagResources>(vpc_action("ListTagResources"), params).await
    }

    /// The account and the user or role that the credentials belong to.
    pub async fn caller_identity(&self) -> Result<Read<Identity>, Error> {
        let read = self
            .0
            .transport
            .call_once::<CallerIdentity>(
                sts_action("GetCallerIdentity"),
                Params::default(),
                self.deadline_from_now(),
            )
            .await?;
        Ok(read.map(CallerIdentity::into_identity))
    }

    async fn list_pages<K: Ord + Send, P: Page>(
        &self,
        listing: &Listing<K, P>,
        params: Params,
    ) -> Result<Read<Vec<P::Item>>, Error> {
        let due = self.deadline_from_now();
        let permit = self.0.transport.acquire_permit(listing.action, due).await?;
        listing.list_all(&self.0.transport, permit, params, due).await
    }

    async fn list_by_token<C: Chain>(
        &self,
        action: Action,
        params: Params,
    ) -> Result<Read<Vec<C::Item>>, Error> {
        let due = self.deadline_from_now();
        let permit = self.0.transport.acquire_permit(action, due).await?;
        list_chain::<C>(&self.0.transport, permit, action, params, due).await
    }
}

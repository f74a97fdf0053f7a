//! The client's reads.

use super::Cloud;
use crate::error::Error;
use crate::gateway::entry_cache::Entries;
use crate::http::params::Params;
use crate::network::{
    Identity, ResourceTag, RouteEntry, RouteTable, SecurityRule, SnatEntry, VSwitch, Vpc,
};
use crate::read::pages::{Listing, chain};
use crate::read::queries::{Asking, EIPS, EIPS_A_CALL, ENTRIES, Forwards, Gateway};
use crate::transport::{Action, Read, ecs, sts, vpc};
use crate::wire::nat::SnatEntries;
use crate::wire::network::{RouteEntries, RouteTables, VSwitches, Vpcs};
use crate::wire::security::SecurityGroup;
use crate::wire::sts::CallerIdentity;
use crate::wire::tags::TagResources;
use crate::wire::{Chain, Page};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use tokio::time::Instant;
use waygate_core::facts::{Eip, Eni, ForwardEntry, NatGateway};
use waygate_core::ids::{AllocationId, EniId, ForwardEntryId, NatGatewayId, VSwitchId, VpcId};

/// Items on a page of most lists, their API's maximum.
const PAGE: u32 = 50;

/// Reads on which leases depend. Batched: many waiters share one call.
impl Cloud {
    /// The EIP, or `None` where the cloud says that no such EIP exists.
    pub async fn eip(&self, id: &AllocationId) -> Result<Read<Option<Eip>>, Error> {
        self.0.eips.read(id.clone()).await
    }

    /// Every EIP that carries all of `tags`.
    pub async fn eips_by_tags(
        &self,
        tags: &BTreeMap<String, String>,
    ) -> Result<Read<Vec<Eip>>, Error> {
        self.list(&EIPS, Params::default().tags(tags)).await
    }

    /// The EIPs that operators tagged into a pool (`waygate.dev/eip-pool`).
    pub async fn eips_of_pool(&self, pool: &str) -> Result<Read<Vec<Eip>>, Error> {
        let read = self.0.pools.read(pool.to_owned()).await?;
        Ok(read.map(|eips| eips.map(|eips| eips.to_vec()).unwrap_or_default()))
    }

    /// The EIPs that have one of these addresses.
    pub async fn eips_by_address(&self, ips: &[Ipv4Addr]) -> Result<Read<Vec<Eip>>, Error> {
        let mut all = Read { value: Vec::new(), began: Instant::now() };
        for (index, ips) in ips.chunks(EIPS_A_CALL).enumerate() {
            let words: Vec<String> = ips.iter().map(Ipv4Addr::to_string).collect();
            let part =
                self.list(&EIPS, Params::default().with("EipAddress", words.join(","))).await?;
            // The result is as old as the oldest of its parts.
            if index == 0 {
                all.began = part.began;
            }
            all.value.extend(part.value);
        }
        Ok(all)
    }

    /// The interface in the VPC that owns `ip` as primary or secondary address or out of a prefix;
    /// `None` while the cloud shows no such interface.
    pub async fn eni_by_private_ip(&self, ip: Ipv4Addr) -> Result<Read<Option<Eni>>, Error> {
        self.0.interfaces.owner(ip).await
    }

    /// The NAT gateway, or `None` where the cloud says that no such gateway exists.
    pub async fn nat_gateway(&self, id: &NatGatewayId) -> Result<Read<Option<NatGateway>>, Error> {
        let make = || Asking::batcher(&self.0.transport, Gateway(id.clone()), 1, self.0.deadline);
        self.0.gateways.get(id, make).read(()).await
    }

    /// Every forward entry of the gateway, each once; an empty list for a gateway that no longer
    /// exists. Listings run one at a time: callers who ask during a listing share the next.
    pub async fn forward_entries(
        &self,
        gateway: &NatGatewayId,
    ) -> Result<Read<Vec<ForwardEntry>>, Error> {
        let read = self.entries(gateway).await?;
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
        let known = self.0.gates.of(gateway).table().since(since);
        let read = match known {
            Some(read) => read,
            None => self.entries(gateway).await?,
        };
        Ok(read.map(|entries| entries.to_vec()))
    }

    pub(super) async fn entries(&self, gateway: &NatGatewayId) -> Result<Entries, Error> {
        let make = || {
            let question = Forwards { gateway: gateway.clone(), gate: self.0.gates.of(gateway) };
            Asking::batcher(&self.0.transport, question, 1, self.0.deadline)
        };
        let read = self.0.forwards.get(gateway, make).read(()).await?;
        Ok(read.map(Option::unwrap_or_default))
    }

    /// A forward entry of the gateway, or `None` where the cloud says that no such entry exists.
    pub(super) async fn entry(
        &self,
        gateway: &NatGatewayId,
        id: &ForwardEntryId,
    ) -> Result<Read<Option<ForwardEntry>>, Error> {
        let read = self
            .list(
                &ENTRIES,
                Params::default().with("NatGatewayId", gateway).with("ForwardEntryId", id),
            )
            .await?;
        Ok(read.map(|entries| entries.into_iter().find(|entry| entry.entry_id == *id)))
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
            action: vpc("DescribeSnatTableEntries"),
            page_size: PAGE,
            key: |entry| entry.snat_entry_id.clone(),
        };
        self.list(&listing, Params::default().with("NatGatewayId", gateway)).await
    }

    /// The vSwitch, or `None` where the cloud says that no such vSwitch exists.
    pub async fn vswitch(&self, id: &VSwitchId) -> Result<Read<Option<VSwitch>>, Error> {
        Ok(self.vswitches_by("VSwitchId", id.as_str()).await?.map(|mut all| all.pop()))
    }

    /// The vSwitches of the cluster's VPC.
    pub async fn vswitches(&self) -> Result<Read<Vec<VSwitch>>, Error> {
        self.vswitches_by("VpcId", self.0.vpc.as_str()).await
    }

    async fn vswitches_by(&self, filter: &str, id: &str) -> Result<Read<Vec<VSwitch>>, Error> {
        let listing: Listing<_, VSwitches> = Listing {
            action: vpc("DescribeVSwitches"),
            page_size: PAGE,
            key: |vswitch| vswitch.vswitch_id.clone(),
        };
        self.list(&listing, Params::default().with(filter, id)).await
    }

    /// The VPC, or `None` where the cloud says that no such VPC exists.
    pub async fn vpc(&self, id: &VpcId) -> Result<Read<Option<Vpc>>, Error> {
        let listing: Listing<_, Vpcs> =
            Listing { action: vpc("DescribeVpcs"), page_size: PAGE, key: |vpc| vpc.vpc_id.clone() };
        Ok(self.list(&listing, Params::default().with("VpcId", id)).await?.map(|mut all| all.pop()))
    }

    /// The route tables of the cluster's VPC.
    pub async fn route_tables(&self) -> Result<Read<Vec<RouteTable>>, Error> {
        let listing: Listing<_, RouteTables> = Listing {
            action: vpc("DescribeRouteTableList"),
            page_size: PAGE,
            key: |table| table.route_table_id.clone(),
        };
        self.list(&listing, Params::default().with("VpcId", &self.0.vpc)).await
    }

    /// All routes of a route table.
    pub async fn route_entries(&self, table: &str) -> Result<Read<Vec<RouteEntry>>, Error> {
        let params = Params::default().with("RouteTableId", table).with("MaxResult", 100);
        self.chain::<RouteEntries>(vpc("DescribeRouteEntryList"), params).await
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
        self.chain::<SecurityGroup>(ecs("DescribeSecurityGroupAttribute"), params).await
    }

    /// The tags of up to 50 resources of one type, such as `EIP` or `NATGATEWAY`.
    pub async fn resource_tags(
        &self,
        resource_type: &str,
        ids: &[&str],
    ) -> Result<Read<Vec<ResourceTag>>, Error> {
        let params = Params::default()
            .with("ResourceType", resource_type)
            .list("ResourceId", ids)
            .with("MaxResults", PAGE);
        self.chain::<TagResources>(vpc("ListTagResources"), params).await
    }

    /// The account and the user or role that the credentials belong to.
    pub async fn caller_identity(&self) -> Result<Read<Identity>, Error> {
        let read = self
            .0
            .transport
            .call::<CallerIdentity>(sts("GetCallerIdentity"), Params::default(), self.due())
            .await?;
        Ok(read.map(CallerIdentity::fact))
    }

    async fn list<K: Ord + Send, P: Page>(
        &self,
        listing: &Listing<K, P>,
        params: Params,
    ) -> Result<Read<Vec<P::Item>>, Error> {
        let due = self.due();
        let permit = self.0.transport.permit(listing.action, due).await?;
        listing.all(&self.0.transport, permit, params, due).await
    }

    async fn chain<C: Chain>(
        &self,
        action: Action,
        params: Params,
    ) -> Result<Read<Vec<C::Item>>, Error> {
        let due = self.due();
        let permit = self.0.transport.permit(action, due).await?;
        chain::<C>(&self.0.transport, permit, action, params, due).await
    }
}

//! The client and the parts that all of its calls share. `reads.rs` has the reads, `slots.rs` the
//! waits for a gateway to accept a change.

mod reads;
mod slots;

use crate::change;
use crate::credentials::Credentials;
use crate::error::Error;
use crate::gateway::limiter::GatewayLimiters;
use crate::http::client::http_client;
use crate::http::endpoints::Endpoints;
use crate::rate_limit::Permits;
use crate::read::batch::{Batcher, BatcherMap};
use crate::read::interfaces::Interfaces;
use crate::read::queries::{EipsById, EipsByPool, EntriesOfGateway, GatewayById, QuerySource};
use crate::send_by::SendBy;
use crate::settings::Settings;
use crate::silence::Silence;
use crate::transport::{Permit, Transport, vpc_action};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::{NatGatewayId, VpcId};

/// Most calls in flight that read EIPs by ID; together they read 400 EIPs.
const MAX_EIP_CALLS: usize = 8;
/// Most calls in flight that read the EIPs of pools.
const MAX_POOL_CALLS: usize = 2;

/// The client. Cheap to clone; all clones share connections, batches and the limiter of each
/// gateway.
#[derive(Clone)]
pub struct Cloud(Arc<Inner>);

struct Inner {
    transport: Arc<Transport>,
    deadline: Duration,
    vpc: VpcId,
    eips: Batcher<QuerySource<EipsById>>,
    pools: Batcher<QuerySource<EipsByPool>>,
    interfaces: Interfaces,
    gateways: BatcherMap<NatGatewayId, QuerySource<GatewayById>>,
    forwards: BatcherMap<NatGatewayId, QuerySource<EntriesOfGateway>>,
    limiters: GatewayLimiters,
}

impl Cloud {
    /// A client that signs with `credentials` and takes one of `permits` for each call. The process
    /// must have installed a rustls provider.
    pub fn new(
        settings: Settings,
        credentials: Credentials,
        permits: Arc<dyn Permits>,
    ) -> Result<Self, Error> {
        let Settings { region, vpc, endpoint, network, call_deadline, user_agent_suffix } =
            settings;
        let endpoints = Endpoints::new(&region, network, endpoint.as_ref())?;
        let http = http_client(&user_agent_suffix)?;
        let silence = Silence::default();
        let transport =
            Arc::new(Transport { http, endpoints, region, credentials, permits, silence });
        Ok(Self(Arc::new(Inner {
            eips: QuerySource::new_batcher(&transport, EipsById, MAX_EIP_CALLS, call_deadline),
            pools: QuerySource::new_batcher(&transport, EipsByPool, MAX_POOL_CALLS, call_deadline),
            interfaces: Interfaces::new(&transport, &vpc, call_deadline),
            gateways: BatcherMap::new(),
            forwards: BatcherMap::new(),
            limiters: GatewayLimiters::default(),
            deadline: call_deadline,
            vpc,
            transport,
        })))
    }

    /// Sends one change of an EIP, once. `token` is the operation's `ClientToken`, left out where the
    /// action takes none. The caller keeps to the account's rate of the action; no permit is drawn.
    /// Changes of forward entries need a write slot instead, because a gateway accepts only a limited
    /// number at a time.
    ///
    /// Nothing is written after `send_by`; `deadline` covers credentials and call.
    pub async fn send_change(
        &self,
        change: &Change,
        token: Option<&str>,
        send_by: SendBy,
        deadline: Duration,
    ) -> Result<Answer, Error> {
        let permit = Permit::booked(vpc_action(change.action()), send_by);
        change::send_once(&self.0.transport, permit, change, token, Instant::now() + deadline).await
    }

    /// Sets tags on up to 50 resources of one type, such as `EIP` or `NATGATEWAY`, within the
    /// client's call deadline. Idempotent.
    pub async fn tag_resources(
        &self,
        resource_type: &str,
        ids: &[&str],
        tags: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        change::tag_resources(&self.0.transport, resource_type, ids, tags, self.deadline_from_now())
            .await
    }

    /// True while calls of this process have waited for so long and none was answered. The cloud, or
    /// only this process' way to it, may be disturbed: others may do better.
    pub fn is_silent_for(&self, time: Duration) -> bool {
        self.0.transport.silence.lasts_for(time)
    }

    /// The deadline of a call that begins now.
    fn deadline_from_now(&self) -> Instant {
        Instant::now() + self.0.deadline
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("region", &self.0.transport.region)
            .field("vpc", &self.0.vpc)
            .finish_non_exhaustive()
    }
}

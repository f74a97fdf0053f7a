//! The client of the cloud: VPC, ECS and STS. The only place that speaks HTTP to it.
//!
//! ```text
//! change ─▶ gateway gate ─▶ permit ─▶ sign ─▶ one write ─▶ answer, or an error that says what it means
//! read ───▶ batch ────────▶ permit ─▶ sign ─▶ pages ─────▶ facts, and when the read began
//! ```
//! Invariants: a change is sent once and never resent here; a read that is returned began after it was asked for; an answer that
//! cannot be read is an error, never an empty list; nothing waits without a deadline.

mod batch;
mod change;
mod codes;
mod credentials;
mod endpoints;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gate;
mod interfaces;
mod lane;
pub mod network;
mod pages;
mod params;
mod permits;
mod reads;
mod sign;
mod sources;
mod table;
mod transport;
mod trust;
mod turn;
mod wire;

pub use credentials::{AccessKey, Credentials, Environment};
pub use endpoints::Network;
pub use error::{Class, Error, Refusal, Waiting};
pub use permits::{Draw, LocalPermits, NoPermit, Permits, Reservation};
pub use transport::Read;
pub use turn::Turn;

use batch::{Batcher, Shelf};
use endpoints::Endpoints;
use gate::Gates;
use interfaces::Interfaces;
use sources::{Asking, EipsById, EipsByPool, Forwards, Gateway};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use transport::{Transport, http_client};
use url::Url;
use waygate_core::change::{Answer, Change};
use waygate_core::ids::{NatGatewayId, RegionId, VpcId};

/// Calls in flight for EIPs by ID: 400 EIPs.
const EIP_LANES: usize = 8;
/// Pools read at the same time.
const POOL_LANES: usize = 2;

/// Which part of the cloud is spoken to, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region of the cluster.
    pub region: RegionId,
    /// The VPC of the cluster.
    pub vpc: VpcId,
    /// Answers for every product in place of the published endpoints.
    pub endpoint: Option<Url>,
    /// Over the Internet, or from inside the VPC.
    pub network: Network,
    /// How long one read may take, waiting for its turn included.
    pub call_deadline: Duration,
    /// Added to `waygate/<version>`; may be empty.
    pub user_agent_suffix: String,
}

/// The client. Cheap to clone; all clones share connections, batches and what was learned about each gateway.
#[derive(Clone)]
pub struct Cloud(Arc<Inner>);

struct Inner {
    transport: Arc<Transport>,
    deadline: Duration,
    vpc: VpcId,
    eips: Batcher<Asking<EipsById>>,
    pools: Batcher<Asking<EipsByPool>>,
    interfaces: Interfaces,
    gateways: Shelf<NatGatewayId, Asking<Gateway>>,
    forwards: Shelf<NatGatewayId, Asking<Forwards>>,
    gates: Gates,
}

impl Cloud {
    /// A client that signs with `credentials` and draws a permit a call. The process must have installed a rustls provider.
    pub fn new(settings: Settings, credentials: Credentials, permits: Arc<dyn Permits>) -> Result<Self, Error> {
        let Settings { region, vpc, endpoint, network, call_deadline, user_agent_suffix } = settings;
        let endpoints = Endpoints::new(&region, network, endpoint.as_ref())?;
        let http = http_client(&user_agent_suffix)?;
        let transport = Arc::new(Transport { http, endpoints, region, credentials, permits });
        Ok(Self(Arc::new(Inner {
            eips: Asking::batcher(&transport, EipsById, EIP_LANES, call_deadline),
            pools: Asking::batcher(&transport, EipsByPool, POOL_LANES, call_deadline),
            interfaces: Interfaces::new(&transport, &vpc, call_deadline),
            gateways: Shelf::new(),
            forwards: Shelf::new(),
            gates: Gates::default(),
            deadline: call_deadline,
            vpc,
            transport,
        })))
    }

    /// Sends one change, once. `token` is the operation's `ClientToken`; it is left out where the action takes none. Changes of DNAT entries
    /// go through [`Self::turn`]: a gateway takes no more than so many at a time.
    ///
    /// Up to `deadline` is spent on everything: a permit, credentials and the call.
    pub async fn change(&self, change: &Change, token: Option<&str>, deadline: Duration) -> Result<Answer, Error> {
        change::send(&self.0.transport, change, token, Instant::now() + deadline).await
    }

    /// Sets tags on up to 50 resources of one type, such as `EIP` or `NATGATEWAY`, within one call's deadline. Repeating it changes nothing.
    pub async fn tag_resources(&self, resource_type: &str, ids: &[&str], tags: &BTreeMap<String, String>) -> Result<(), Error> {
        change::tag_resources(&self.0.transport, resource_type, ids, tags, self.due()).await
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("region", &self.0.transport.region).field("vpc", &self.0.vpc).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send<T: Send>(value: T) -> T {
        value
    }

    /// Never run: that it compiles is the test.
    #[expect(dead_code)]
    fn calls_can_be_spawned(cloud: &Cloud, change: &Change, gateway: &NatGatewayId) {
        drop(is_send(cloud.change(change, None, Duration::ZERO)));
        drop(is_send(cloud.turn(gateway)));
        drop(is_send(cloud.forward_entries(gateway)));
        drop(is_send(cloud.eni_by_private_ip(std::net::Ipv4Addr::LOCALHOST)));
    }
}

//! The client's settings.

use crate::http::endpoints::Network;
use std::time::Duration;
use url::Url;
use waygate_core::ids::{RegionId, VpcId};

/// Region, VPC and endpoints the client calls, and its limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region of the cluster.
    pub region: RegionId,
    /// The VPC of the cluster.
    pub vpc: VpcId,
    /// Base URL for every product in place of the published endpoints, as for the simulator.
    pub endpoint: Option<Url>,
    /// Endpoints on the Internet or inside the VPC; ignored where `endpoint` is set.
    pub network: Network,
    /// Time limit of one read, including the wait for its batch and permit.
    pub call_deadline: Duration,
    /// Added to `waygate/<version>`; may be empty.
    pub user_agent_suffix: String,
}

//! What the client is made from.

use crate::http::endpoints::Network;
use std::time::Duration;
use url::Url;
use waygate_core::ids::{RegionId, VpcId};

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

//! What dashboards are told. Every label is a closed set.

use jiff::Timestamp;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::time::Duration;
use waygate_core::ids::NatGatewayId;
use waygate_core::lease::Lease;

/// The worker's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    calls: Family<CallLabels, Counter>,
    ready: Family<KindLabels, Histogram>,
    waited: Histogram,
    queue: Family<GatewayLabels, Gauge>,
    losses: Family<GatewayLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    action: &'static str,
    outcome: CallOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// The gateways of the pool: few, and named by people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GatewayLabels {
    gateway: String,
}

/// How a call to the cloud ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum CallOutcome {
    /// The cloud did it.
    Done,
    /// The cloud definitely did not.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl CallOutcome {
    /// Of an answer.
    pub(crate) fn of<T>(answer: &Result<T, waygate_cloud::Error>) -> Self {
        match answer {
            Ok(_) => Self::Done,
            Err(error) if error.is_definite() => Self::Refused,
            Err(_) => Self::Unknown,
        }
    }
}

impl Metrics {
    /// Registers the worker's metrics.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let calls = Family::default();
        // 0.1 s to 27 min: an EIP takes a few seconds, a thousand of them the account's rate of 120
        // a minute.
        let ready = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.1, 2.0, 15))) as fn() -> Histogram,
        );
        registry.register(
            "waygate_cloud_changes",
            "Changes asked of the cloud, by action and how they ended",
            calls.clone(),
        );
        registry.register(
            "waygate_ready_seconds",
            "From the sighting of a pod to its published address",
            ready.clone(),
        );
        // 10 ms to half an hour: at once at a free gateway; behind a table's worth of entries at a
        // strict one two minutes.
        let waited = Histogram::new(exponential_buckets(0.01, 2.5, 14));
        let queue = Family::default();
        registry.register(
            "waygate_lane_wait_seconds",
            "How long changes of forward entries waited for their gateway's turn",
            waited.clone(),
        );
        registry.register(
            "waygate_lane_queue",
            "Changes of forward entries that wait for their gateway's turn",
            queue.clone(),
        );
        let losses = Family::default();
        registry.register(
            "waygate_losses_held",
            "How often a pod stayed ready whose forward entries were lost, because many of its gateway's had lost theirs",
            losses.clone(),
        );
        Self { calls, ready, waited, queue, losses }
    }

    /// A change was answered, or not.
    pub(crate) fn calls(&self, action: &'static str, outcome: CallOutcome) {
        self.calls.get_or_create(&CallLabels { action, outcome }).inc();
    }

    /// A change of a forward entry got its turn.
    pub(crate) fn waited(&self, time: Duration) {
        self.waited.observe(time.as_secs_f64());
    }

    /// So many wait at a gateway whose lane is served here.
    pub(crate) fn queue(&self, gateway: &NatGatewayId, length: i64) {
        self.queue.get_or_create(&GatewayLabels { gateway: gateway.to_string() }).set(length);
    }

    /// Many pods of the gateway lost their entries, and one more was not told.
    pub(crate) fn losses_held(&self, gateway: &NatGatewayId) {
        self.losses.get_or_create(&GatewayLabels { gateway: gateway.to_string() }).inc();
    }

    /// A gateway's lane is not served here any more.
    pub(crate) fn left(&self, gateway: &NatGatewayId) {
        self.queue.remove(&GatewayLabels { gateway: gateway.to_string() });
    }

    /// An address was published for the first time.
    pub(crate) fn published(&self, lease: &Lease) {
        let kind = lease.kind.as_str();
        let seconds = Timestamp::now().duration_since(lease.created_at).as_secs_f64().max(0.0);
        self.ready.get_or_create(&KindLabels { kind }).observe(seconds);
    }
}

//! Prometheus metrics. Every label has a closed set of values.

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

/// The worker's metric families; clones share their values.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    cloud_changes: Family<CallLabels, Counter>,
    seconds_to_publish: Family<KindLabels, Histogram>,
    account_wait: Family<ActionLabels, Histogram>,
    account_queue_length: Family<ActionLabels, Gauge>,
    queue_wait: Histogram,
    queue_length: Family<GatewayLabels, Gauge>,
    cloud_silent: Gauge,
    limited_withdrawals: Family<GatewayLabels, Counter>,
    list_comparisons: Family<ListLabels, Counter>,
    drift_wakeups: Family<ListKindLabels, Counter>,
    set_aside: Family<SetAsideLabels, Counter>,
    set_aside_objects: Family<LoopLabels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    action: &'static str,
    outcome: CallOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SetAsideLabels {
    r#loop: ObjectLoop,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoopLabels {
    r#loop: ObjectLoop,
}

/// A loop over objects, as the label `loop` of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum ObjectLoop {
    /// Events of pods.
    PodEvents,
    /// Deletions of custom resources.
    CustomResources,
    /// Pods that missed the webhook.
    MissedPods,
    /// Due leases.
    Leases,
    /// NAT gateways that are read.
    Gateways,
    /// Registrations that get the certificate authority.
    Registrations,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListLabels {
    list: ListKind,
    outcome: ListOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListKindLabels {
    list: ListKind,
}

/// A list of the cloud, as the label `list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum ListKind {
    /// The account's EIPs.
    Eips,
    /// A gateway's forward entries.
    Entries,
}

/// Outcome of a comparison, as the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum ListOutcome {
    /// The list was compared with the leases.
    Compared,
    /// The pages of the list shifted, so that something may be missing.
    Incomplete,
    /// The cloud or the store did not answer.
    Failed,
}

/// Labels by NAT gateway: those of the configuration, a handful.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GatewayLabels {
    gateway: String,
}

/// Outcome of a call to the cloud, as the label `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum CallOutcome {
    /// The cloud reported success.
    Done,
    /// The cloud definitely did not carry the change out.
    Refused,
    /// The call was not sent, because no permit came in time.
    NotSent,
    /// No answer, or one that leaves the effect open.
    Unknown,
}

impl CallOutcome {
    /// Classifies the client's result of a call.
    pub(crate) fn from_result<T>(answer: &Result<T, waygate_cloud::Error>) -> Self {
        match answer {
            Ok(_) => Self::Done,
            Err(error) if error.call_failure().lacks_permit() => Self::NotSent,
            Err(error) if error.is_definite() => Self::Refused,
            Err(_) => Self::Unknown,
        }
    }
}

/// Creates and registers the families about the cloud's lists.
fn register_lists(
    registry: &mut Registry,
) -> (Family<ListLabels, Counter>, Family<ListKindLabels, Counter>) {
    let list_comparisons = Family::default();
    registry.register(
        "waygate_list_comparisons",
        "Comparisons of a list of the cloud with the leases, by list and outcome",
        list_comparisons.clone(),
    );
    let drift_wakeups = Family::default();
    registry.register(
        "waygate_drift_wakeups",
        "Leases woken because a list of the cloud shows something else than their records",
        drift_wakeups.clone(),
    );
    (list_comparisons, drift_wakeups)
}

impl Metrics {
    /// Creates the families and registers them in `registry`.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let cloud_changes = Family::default();
        // 0.1 s to 27 min: one EIP takes a few seconds, a thousand EIPs take minutes at the
        // account's rate of 120 calls a minute.
        let seconds_to_publish = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.1, 2.0, 15))) as fn() -> Histogram,
        );
        registry.register(
            "waygate_cloud_changes",
            "Changes requested of the cloud, by action and outcome",
            cloud_changes.clone(),
        );
        registry.register(
            "waygate_ready_seconds",
            "Time from a lease's creation to the publication of its address, after each withdrawal again",
            seconds_to_publish.clone(),
        );
        // 10 ms to half an hour: a free gateway takes a change at once; behind a full table of
        // entries at a gateway that takes one at a time, a change waits two minutes.
        let queue_wait = Histogram::new(exponential_buckets(0.01, 2.5, 14));
        let queue_length = Family::default();
        registry.register(
            "waygate_gateway_queue_wait_seconds",
            "Time that changes of forward entries waited in their gateway's queue",
            queue_wait.clone(),
        );
        registry.register(
            "waygate_gateway_queue_length",
            "Changes of forward entries waiting in their gateway's queue",
            queue_length.clone(),
        );
        let account_wait = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.01, 2.5, 14))) as fn() -> Histogram,
        );
        let account_queue_length = Family::default();
        registry.register(
            "waygate_account_queue_wait_seconds",
            "Time that changes of EIPs waited for a call of the account, by action",
            account_wait.clone(),
        );
        registry.register(
            "waygate_account_queue_length",
            "Changes of EIPs of this cluster that wait for a call of the account, by action",
            account_queue_length.clone(),
        );
        let cloud_silent = Gauge::default();
        registry.register(
            "waygate_cloud_silent",
            "1 while the cloud answers no call of this worker, which leaves its work to others",
            cloud_silent.clone(),
        );
        let limited_withdrawals = Family::default();
        registry.register(
            "waygate_withdrawals_limited",
            "Withdrawals prevented because many pods of the gateway lost their entries",
            limited_withdrawals.clone(),
        );
        let (list_comparisons, drift_wakeups) = register_lists(registry);
        let set_aside = Family::default();
        registry.register(
            "waygate_set_aside",
            "Failures of objects that are set aside, each of which lengthens the object's pause",
            set_aside.clone(),
        );
        let set_aside_objects = Family::default();
        registry.register(
            "waygate_set_aside_objects",
            "Objects set aside now, which are tried again in pauses of their own; leases are not counted here",
            set_aside_objects.clone(),
        );
        Self {
            cloud_changes,
            seconds_to_publish,
            account_wait,
            account_queue_length,
            queue_wait,
            queue_length,
            cloud_silent,
            limited_withdrawals,
            list_comparisons,
            drift_wakeups,
            set_aside,
            set_aside_objects,
        }
    }

    /// Counts one call of a change, answered or not.
    pub(crate) fn count_cloud_change(&self, action: &'static str, outcome: CallOutcome) {
        self.cloud_changes.get_or_create(&CallLabels { action, outcome }).inc();
    }

    /// Records the time that a change of an EIP waited in the account's queue.
    pub(crate) fn observe_account_wait(&self, action: &'static str, time: Duration) {
        self.account_wait.get_or_create(&ActionLabels { action }).observe(time.as_secs_f64());
    }

    /// Sets the length of the account's queue of an action.
    pub(crate) fn set_account_queue_length(&self, action: &'static str, length: i64) {
        self.account_queue_length.get_or_create(&ActionLabels { action }).set(length);
    }

    /// Shows whether the cloud answers no call of this process.
    pub(crate) fn show_cloud_silent(&self, silent: bool) {
        self.cloud_silent.set(silent.into());
    }

    /// Records the time that a change of a forward entry waited in its gateway's queue.
    pub(crate) fn observe_queue_wait(&self, time: Duration) {
        self.queue_wait.observe(time.as_secs_f64());
    }

    /// Sets the queue length of a gateway whose lock this process holds.
    pub(crate) fn set_queue_length(&self, gateway: &NatGatewayId, length: i64) {
        self.queue_length
            .get_or_create(&GatewayLabels { gateway: gateway.to_string() })
            .set(length);
    }

    /// Counts one withdrawal that the gateway's loss limit prevented.
    pub(crate) fn count_limited_withdrawal(&self, gateway: &NatGatewayId) {
        self.limited_withdrawals
            .get_or_create(&GatewayLabels { gateway: gateway.to_string() })
            .inc();
    }

    /// Counts one comparison of a list with the leases.
    pub(crate) fn count_list_comparison(&self, list: ListKind, outcome: ListOutcome) {
        self.list_comparisons.get_or_create(&ListLabels { list, outcome }).inc();
    }

    /// Counts the leases that a comparison woke.
    pub(crate) fn count_drift_wakeups(&self, list: ListKind, leases: u64) {
        self.drift_wakeups.get_or_create(&ListKindLabels { list }).inc_by(leases);
    }

    /// Counts one failure of an object that is set aside.
    pub(crate) fn count_set_aside(&self, of: ObjectLoop, reason: &'static str) {
        self.set_aside.get_or_create(&SetAsideLabels { r#loop: of, reason }).inc();
    }

    /// Shows the number of objects of a loop that are set aside.
    pub(crate) fn show_set_aside(&self, of: ObjectLoop, objects: usize) {
        let objects = i64::try_from(objects).unwrap_or(i64::MAX);
        self.set_aside_objects.get_or_create(&LoopLabels { r#loop: of }).set(objects);
    }

    /// Removes the queue length of a gateway whose lock this process has given up.
    pub(crate) fn remove_queue_length(&self, gateway: &NatGatewayId) {
        self.queue_length.remove(&GatewayLabels { gateway: gateway.to_string() });
    }

    /// Records the time from the lease's creation to a publication of its address.
    pub(crate) fn observe_time_to_publish(&self, lease: &Lease) {
        let kind = lease.kind.as_str();
        let seconds = Timestamp::now().duration_since(lease.created_at).as_secs_f64().max(0.0);
        self.seconds_to_publish.get_or_create(&KindLabels { kind }).observe(seconds);
    }
}

//! Prometheus metrics of the admission server; all labels have closed sets of values.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::fmt::Write;
use std::time::Duration;

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum $name { $($variant),+ }

        impl $name {
            /// Value of the label.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// Endpoint of a review.
    Endpoint { Mutate = "mutate", Validate = "validate", Warn = "warn" }
}
label! {
    /// Outcome of a review; `Unread` if its body was never read completely.
    ReviewOutcome { Allowed = "allowed", Warned = "warned", Refused = "refused", Malformed = "malformed", Unread = "unread" }
}
label! {
    /// Outcome of an announcement: `Late` ones may still be written, `Busy` ones were never tried.
    AnnouncementOutcome { Done = "done", Failed = "failed", Late = "late", Busy = "busy" }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    endpoint: Endpoint,
    outcome: ReviewOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndpointLabels {
    endpoint: Endpoint,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnnouncementLabels {
    outcome: AnnouncementOutcome,
}

/// Metrics of the server; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    reviews: Family<ReviewLabels, Counter>,
    durations: Family<EndpointLabels, Histogram>,
    announcements: Family<AnnouncementLabels, Counter>,
    missing_gates: Counter,
}

impl Metrics {
    /// Registers the metrics in a registry.
    pub fn new(registry: &mut Registry) -> Self {
        // From 0.1 ms, a usual review, to 3.3 s, beyond the API server's deadline of 3 s.
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let durations = Family::new_with_constructor(buckets);
        let metrics = Self {
            reviews: Family::default(),
            durations,
            announcements: Family::default(),
            missing_gates: Counter::default(),
        };
        registry.register("reviews", "Reviews by endpoint and outcome", metrics.reviews.clone());
        registry.register_with_unit(
            "review_duration",
            "Time from the request of a review to its response",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "announcements",
            "Pods announced to the worker, by outcome",
            metrics.announcements.clone(),
        );
        registry.register(
            "missing_gates",
            "Pods admitted without the readiness gate they should have",
            metrics.missing_gates.clone(),
        );
        metrics
    }

    pub(crate) fn count_review(&self, endpoint: Endpoint, outcome: ReviewOutcome, took: Duration) {
        self.reviews.get_or_create(&ReviewLabels { endpoint, outcome }).inc();
        self.durations.get_or_create(&EndpointLabels { endpoint }).observe(took.as_secs_f64());
    }

    pub(crate) fn count_announcement(&self, outcome: AnnouncementOutcome) {
        self.announcements.get_or_create(&AnnouncementLabels { outcome }).inc();
    }

    pub(crate) fn count_missing_gate(&self) {
        self.missing_gates.inc();
    }
}

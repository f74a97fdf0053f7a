//! What is counted. Labels are closed.

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

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                encoder.write_str(match self { $(Self::$variant => $text),+ })
            }
        }
    };
}

label! {
    /// Which endpoint.
    Path { Mutate = "mutate", Validate = "validate", Warn = "warn" }
}
label! {
    /// What became of a review; of one that was never read whole, `Unread`.
    Verdict { Allowed = "allowed", Warned = "warned", Refused = "refused", Malformed = "malformed", Unread = "unread" }
}
label! {
    /// What became of a job: `Late` ones may still arrive, `Busy` ones were never tried.
    Outcome { Done = "done", Failed = "failed", Late = "late", Busy = "busy" }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    path: Path,
    verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPath {
    path: Path,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: Outcome,
}

/// The counters of the server; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    reviews: Family<ByVerdict, Counter>,
    durations: Family<ByPath, Histogram>,
    hand_offs: Family<ByOutcome, Counter>,
    missing_gates: Counter,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        // 0.1 ms, which a review takes, to 3.3 s, beyond the API server's patience.
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let durations = Family::new_with_constructor(buckets);
        let metrics = Self {
            reviews: Family::default(),
            durations,
            hand_offs: Family::default(),
            missing_gates: Counter::default(),
        };
        registry.register("reviews", "Reviews by endpoint and verdict", metrics.reviews.clone());
        registry.register_with_unit(
            "review_duration",
            "Time from request to answer",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register(
            "hand_offs",
            "Jobs handed to the worker by outcome",
            metrics.hand_offs.clone(),
        );
        registry.register(
            "missing_gates",
            "Pods admitted without the gate they should have",
            metrics.missing_gates.clone(),
        );
        metrics
    }

    pub(crate) fn reviewed(&self, path: Path, verdict: Verdict, took: Duration) {
        self.reviews.get_or_create(&ByVerdict { path, verdict }).inc();
        self.durations.get_or_create(&ByPath { path }).observe(took.as_secs_f64());
    }

    pub(crate) fn handed_off(&self, outcome: Outcome) {
        self.hand_offs.get_or_create(&ByOutcome { outcome }).inc();
    }

    pub(crate) fn gate_is_missing(&self) {
        self.missing_gates.inc();
    }
}

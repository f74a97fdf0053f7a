//! What the worker reads of a pod: an event after which this is as before wakes no lease. Other
//! controllers write to pods all the time.

use crate::objects::pod as pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use uuid::Uuid;
use waygate_core::annotations::POD_LABEL;
use waygate_core::config::Config;
use waygate_core::plan::PodView;
use waygate_core::request::Kind;

/// All that the worker reads of a pod. The plan's part is read by the function that reads it for the
/// plan, so that no event is missed that changes a plan.
#[derive(Debug)]
#[expect(dead_code, reason = "read as a whole, by its digest")]
pub(super) struct PodRecord {
    /// A lease that passes to another pod is not known by the former one's record.
    uid: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    label: Option<String>,
    controller: Option<String>,
    created_at: Option<Timestamp>,
    /// The pod as a lease of each kind sees it; an annotation that is wrong shows in both.
    views: [PodView; 2],
}

impl PodRecord {
    /// Reads a pod.
    pub(super) fn read(config: &Config, pod: &Pod) -> Self {
        Self {
            uid: pod.uid(),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            label: pod.labels().get(POD_LABEL).cloned(),
            controller: pods::controller_name(pod),
            created_at: pod.creation_timestamp().map(|at| at.0),
            views: Kind::ALL.map(|kind| pods::pod_view(config, pod, kind)),
        }
    }

    /// A hash of the record under a configuration. Derived from its text, so that no field can be
    /// left out.
    pub(super) fn digest(&self, config: ConfigDigest) -> i64 {
        digest_text(&format!("{config:?} {self:?}"))
    }
}

/// A hash of the configuration and of the release: under another one, each pod is recorded anew, as
/// its leases may need something else.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConfigDigest(#[expect(dead_code, reason = "read by Debug")] i64);

impl ConfigDigest {
    /// Hashes the configuration. Secrets are left out.
    pub(super) fn new(config: &Config) -> Self {
        Self(digest_text(&format!("{} {config:?}", env!("CARGO_PKG_VERSION"))))
    }
}

/// The same in every process of a build: the hasher has no random key. Where a compiler brings
/// another hasher, each pod is recorded once more.
fn digest_text(text: &str) -> i64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish().cast_signed()
}

/// The digest of each pod in the watch, as this listener or a former one recorded it last.
#[derive(Default)]
pub(super) struct KnownPods(Mutex<HashMap<Uuid, i64>>);

impl KnownPods {
    /// True if the pod was recorded with this digest.
    pub(super) fn is_known(&self, pod: Uuid, digest: i64) -> bool {
        self.0.lock().get(&pod) == Some(&digest)
    }

    /// Notes that the pod is recorded with this digest.
    pub(super) fn remember(&self, pod: Uuid, digest: i64) {
        self.0.lock().insert(pod, digest);
    }

    /// Notes what former listeners have recorded.
    pub(super) fn remember_all(&self, digests: HashMap<Uuid, i64>) {
        self.0.lock().extend(digests);
    }

    /// Forgets a pod that has left the watch.
    pub(super) fn forget(&self, pod: Uuid) {
        self.0.lock().remove(&pod);
    }

    /// Forgets all pods but these, the ones in the watch.
    pub(super) fn retain(&self, present: &HashSet<Uuid>) {
        self.0.lock().retain(|pod, _| present.contains(pod));
    }
}

#[cfg(test)]
mod tests;

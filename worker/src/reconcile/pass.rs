//! One pass over a lease: what the store holds of it and what was observed for it. The steps of a
//! pass are its methods, each in the file of its subject.

use super::observe::Observed;
use crate::context::Worker;
use waygate_core::lease::Lease;
use waygate_core::plan::Situation;
use waygate_store::{Claim, Claimed, Loaded};

/// A claimed lease, loaded and observed.
pub(crate) struct Pass<'a> {
    /// The worker that holds the claim.
    pub worker: &'a Worker,
    /// The claim.
    pub claim: &'a Claim,
    /// The lease and its operations.
    pub loaded: &'a Loaded,
    /// Its pod, its custom resource and its things in the cloud, read after it was loaded.
    pub observed: &'a Observed,
}

impl<'a> Pass<'a> {
    /// The lease.
    pub(crate) fn lease(&self) -> &'a Lease {
        &self.loaded.lease
    }

    /// The store's writes that hold only under the claim.
    pub(crate) fn claimed(&self) -> Claimed<'a> {
        self.worker.store.claimed(self.claim)
    }

    /// `namespace/name` of its pod, for logs.
    pub(crate) fn pod_name(&self) -> String {
        self.lease().pod()
    }

    /// All of it as the plan looks at it.
    pub(crate) fn situation(&self) -> Situation<'a> {
        Situation {
            owner: self.worker.cluster.owner,
            served: self.worker.serves(self.loaded.lease.kind),
            lease: &self.loaded.lease,
            operations: &self.loaded.operations,
            rejection: self.loaded.refused.as_ref(),
            pod: &self.observed.pod,
            resource: &self.observed.resource,
            successor: self.observed.successor.as_ref(),
            sources: &self.observed.sources,
            cloud: &self.observed.cloud,
            now: self.loaded.now,
        }
    }
}

//! One pass over a lease: its stored state and the observation made for it. The steps of a pass are
//! methods, each in the file of its subject.

use super::observe::Observation;
use crate::context::Worker;
use waygate_core::lease::Lease;
use waygate_core::plan::Situation;
use waygate_store::{Claim, Claimed, Loaded};

/// Input of one step: a claimed lease, loaded and then observed.
pub(crate) struct Pass<'a> {
    /// Context of the worker that holds the claim.
    pub worker: &'a Worker,
    /// Claim that every write of this pass to the store checks.
    pub claim: &'a Claim,
    /// The lease, its operations and its gateway as the store has them.
    pub loaded: &'a Loaded,
    /// Pod, custom resource and cloud resources, read after the lease was loaded.
    pub observation: &'a Observation,
}

impl<'a> Pass<'a> {
    /// The lease as loaded at the start of this pass.
    pub(crate) fn lease(&self) -> &'a Lease {
        &self.loaded.lease
    }

    /// Writes to the lease under the claim, which fail once the claim is lost.
    pub(crate) fn under_claim(&self) -> Claimed<'a> {
        self.worker.store.under_claim(self.claim)
    }

    /// `namespace/name` of the lease's pod, for logs.
    pub(crate) fn pod_name(&self) -> String {
        self.lease().pod_full_name()
    }

    /// Assembles the input of the plan.
    pub(crate) fn situation(&self) -> Situation<'a> {
        Situation {
            owner: self.worker.cluster.owner,
            served: self.worker.serves_kind(self.loaded.lease.kind),
            lease: &self.loaded.lease,
            operations: &self.loaded.operations,
            rejection: self.loaded.rejection.as_ref(),
            refusal: self.loaded.refusal.as_ref(),
            pod: &self.observation.pod,
            custom_resource: &self.observation.resource,
            successor: self.observation.successor.as_ref(),
            sources: &self.observation.sources,
            cloud: &self.observation.cloud,
            now: self.loaded.now,
        }
    }
}

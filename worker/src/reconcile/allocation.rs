//! Acquires what a lease holds without a call to the cloud: an existing EIP, ports. Pauses where
//! another lease holds it.

use super::outcome::{Pause, StepOutcome};
use super::pass::Pass;
use crate::errors::Error;
use std::net::Ipv4Addr;
use waygate_core::ids::{AllocationId, LeaseId, PodUid, ZoneId};
use waygate_core::lease::Lease;
use waygate_core::plan::Wait;
use waygate_core::request::Request;
use waygate_core::rules::{conflict, pauses, reads, reservation, succession};
use waygate_store::{Error as StoreError, PodObservation};

impl Pass<'_> {
    /// Adopts the first candidate that no other lease holds; pauses with `or` where all are held.
    pub(crate) async fn adopt_eip(
        &self,
        candidates: &[(AllocationId, Ipv4Addr)],
        or: Wait,
    ) -> Result<StepOutcome, Error> {
        if self.under_claim().adopt_eip(candidates).await? {
            Ok(StepOutcome::Continue)
        } else {
            self.report_and_pause(or).await
        }
    }

    /// Marks the EIP as preempted by this lease; the older pod's lease, once woken, gives it up.
    pub(crate) async fn preempt_eip(&self, id: &AllocationId) -> Result<(), Error> {
        self.under_claim().preempt_eip(id).await?;
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), eip.id = %id,
            "preempting the EIP of an older pod"
        );
        self.worker.due.notify_one();
        Ok(())
    }

    /// Adopts the paid-up PrePaid EIP of a lease that is being released.
    pub(crate) async fn adopt_prepaid_eip(
        &self,
        former_lease: LeaseId,
    ) -> Result<StepOutcome, Error> {
        if !self.under_claim().adopt_prepaid_eip(former_lease).await? {
            return Ok(StepOutcome::pause(pauses::wait_for_another_eip()));
        }
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), former.lease.id = %former_lease,
            "PrePaid EIP adopted from a releasing lease"
        );
        self.worker.due.notify_one();
        Ok(StepOutcome::Continue)
    }

    /// Reserves all ports of the lease on one EIP, preferably of a gateway in the pod's zone.
    pub(crate) async fn reserve_ports(&self, zone: &ZoneId) -> Result<StepOutcome, Error> {
        let Request::Dnat(request) = &self.lease().request else { return Err(Error::Changed) };
        let config = &self.worker.config;
        let gateways = config.gateways_of(&self.lease().namespace);
        let candidates = self.worker.port_pool.candidate_eips(&gateways, zone);
        let reserved = match self.under_claim().reserve_ports(request, &candidates).await {
            Ok(reserved) => reserved,
            // A former pod's entry may still forward to this port of the pod's IP address.
            Err(error) => return self.pause_on_conflict(Err(error)).await,
        };
        let searched = reservation::PortSearch {
            gateways: &gateways,
            configured: &config.gateways,
            candidates: &candidates,
            ports: request.ports.len(),
        };
        match reservation::wait_after_reservation(&reserved, &searched) {
            Some(wait) => self.report_and_pause(wait).await,
            None => Ok(StepOutcome::Continue),
        }
    }

    /// Gives back all that the lease has at its gateway, which has no room for all its entries.
    pub(crate) async fn vacate_gateway(&self) -> Result<(), Error> {
        self.under_claim().start_vacating().await?;
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), "vacating a full NAT gateway"
        );
        Ok(())
    }

    /// Turns a violated unique constraint, by which another lease holds the thing, into a pause
    /// with the constraint's reason; passes other errors on.
    pub(crate) async fn pause_on_conflict(
        &self,
        written: Result<(), StoreError>,
    ) -> Result<StepOutcome, Error> {
        let Err(error) = written else { return Ok(StepOutcome::Continue) };
        let Some(constraint) = error.violated_constraint() else { return Err(error.into()) };
        let Some(wait) = conflict::wait_after_conflict(constraint) else {
            return Err(error.into());
        };
        if conflict::expedites_removal(constraint) {
            self.expedite_removal().await?;
        }
        tracing::debug!(
            lease.id = %self.claim.lease_id, constraint = constraint.index_name(),
            "conflict with another lease"
        );
        self.report_and_pause(wait).await
    }

    /// Moves the removal of what other leases still have at this pod's address to the front of its
    /// queue: until then, clients of a former pod reach this one.
    async fn expedite_removal(&self) -> Result<(), Error> {
        let Some(ip) = reads::pod_ip(&self.observation.pod) else { return Ok(()) };
        let (store, vpc) = (&self.worker.store, &self.worker.config.vpc_id);
        for gateway in store.expedite_removals(self.lease().id, vpc, ip).await? {
            self.worker.queue_wakeups.notify_queued(&gateway);
        }
        self.worker.due.notify_one();
        Ok(())
    }

    /// Observes the pod that requests an address next under this name, so that it has a lease.
    pub(crate) async fn observe_next_pod(&self) -> Result<(), Error> {
        let Some(pod) = succession::pod_to_observe(
            self.lease(),
            &self.observation.pod,
            self.observation.successor.as_ref(),
        ) else {
            return Ok(());
        };
        self.observe_pod(self.lease(), &pod.uid, pod.controller.as_deref(), &pod.request).await
    }

    async fn observe_pod(
        &self,
        lease: &Lease,
        uid: &PodUid,
        controller: Option<&str>,
        request: &Request,
    ) -> Result<(), Error> {
        let Ok(pod_uid) = uid.as_str().parse() else { return Ok(()) };
        // The creation time follows with the pod's next event.
        let observation = PodObservation {
            namespace: &lease.namespace,
            pod_name: &lease.pod_name,
            pod_uid,
            controller,
            pod_created_at: None,
            request,
        };
        self.worker.store.observe_pod(self.worker.cluster, &observation).await?;
        self.worker.due.notify_one();
        Ok(())
    }

    /// Reports the wait on the pod and pauses.
    pub(crate) async fn report_and_pause(&self, wait: Wait) -> Result<StepOutcome, Error> {
        self.report_wait(&wait).await?;
        Ok(StepOutcome::Pause(Pause::from(wait)))
    }
}

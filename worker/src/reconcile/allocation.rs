//! Acquires what a lease holds without a call to the cloud: an existing EIP, ports. Pauses where
//! another lease holds it.

use super::outcome::{After, Pause};
use super::pass::Pass;
use crate::errors::Error;
use std::net::Ipv4Addr;
use waygate_core::ids::{AllocationId, LeaseId, PodUid, ZoneId};
use waygate_core::lease::Lease;
use waygate_core::plan::Wait;
use waygate_core::request::Request;
use waygate_core::retry::Patience;
use waygate_core::rules::{conflict, reads, reservation, succession};
use waygate_store::{Error as StoreError, Sighting};

impl Pass<'_> {
    /// Adopts the first candidate that no other lease holds; pauses with `or` where all are held.
    pub(crate) async fn take_eip(
        &self,
        candidates: &[(AllocationId, Ipv4Addr)],
        or: Wait,
    ) -> Result<After, Error> {
        if self.claimed().take_eip(candidates).await? {
            Ok(After::Next)
        } else {
            self.wait(or).await
        }
    }

    /// Marks the EIP as preempted by this lease; the older pod's lease, once woken, gives it up.
    pub(crate) async fn take_over(&self, id: &AllocationId) -> Result<(), Error> {
        self.claimed().take_over(id).await?;
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), eip.id = %id,
            "preempting the EIP of an older pod"
        );
        self.worker.due.notify_one();
        Ok(())
    }

    /// Adopts the paid-up PrePaid EIP of a lease that is being released.
    pub(crate) async fn take_spare(&self, spare: LeaseId) -> Result<After, Error> {
        if !self.claimed().take_spare(spare).await? {
            return Ok(After::reread(
                "another pod adopted the PrePaid EIP first; looking for another EIP",
                Patience::Poll,
            ));
        }
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), former.lease = %spare,
            "PrePaid EIP adopted from a released lease"
        );
        self.worker.due.notify_one();
        Ok(After::Next)
    }

    /// Reserves all ports of the lease on one EIP, preferably of a gateway in the pod's zone.
    pub(crate) async fn reserve_ports(&self, zone: &ZoneId) -> Result<After, Error> {
        let Request::Dnat(request) = &self.lease().request else { return Err(Error::Changed) };
        let config = &self.worker.config;
        let gateways = config.gateways_of(&self.lease().namespace);
        let candidates = self.worker.pool.candidates(&gateways, zone);
        let reserved = match self.claimed().reserve_ports(request, &candidates).await {
            Ok(reserved) => reserved,
            // An earlier pod's entry may still forward to this port of the pod's IP address.
            Err(error) => return self.wait_on_conflict(Err(error)).await,
        };
        let searched = reservation::Searched {
            gateways: &gateways,
            configured: &config.gateways,
            candidates: &candidates,
            ports: request.ports.len(),
        };
        match reservation::wait_for(&reserved, &searched) {
            Some(wait) => self.wait(wait).await,
            None => Ok(After::Next),
        }
    }

    /// Gives back all that the lease has at its gateway, which has no room for all its entries.
    pub(crate) async fn spill(&self) -> Result<(), Error> {
        self.claimed().spill().await?;
        tracing::info!(
            lease.id = %self.lease().id, pod = self.pod_name(), "vacating a full NAT gateway"
        );
        Ok(())
    }

    /// Turns a violated unique constraint, by which another lease holds the thing, into a pause
    /// with the constraint's reason; passes other errors on.
    pub(crate) async fn wait_on_conflict(
        &self,
        done: Result<(), StoreError>,
    ) -> Result<After, Error> {
        let Err(error) = done else { return Ok(After::Next) };
        let Some(constraint) = error.conflict() else { return Err(error.into()) };
        let Some(wait) = conflict::wait_for(constraint) else { return Err(error.into()) };
        if conflict::expedites_removal(constraint) {
            self.expedite_removal().await?;
        }
        tracing::debug!(
            lease.id = %self.claim.lease_id, constraint = constraint.index(),
            "conflict with another lease"
        );
        self.wait(wait).await
    }

    /// Moves the deletions of entries that other leases still have at this pod's address to the
    /// front of their gateways' queues: until then, clients of an earlier pod reach this one.
    async fn expedite_removal(&self) -> Result<(), Error> {
        let Some(ip) = reads::pod_ip(&self.observed.pod) else { return Ok(()) };
        for gateway in self.worker.store.hurry(self.lease().id, ip).await? {
            self.worker.lanes.queued(&gateway);
        }
        self.worker.due.notify_one();
        Ok(())
    }

    /// Observes the pod that requests an address next under this name, so that it has a lease.
    pub(crate) async fn observe_next_pod(&self) -> Result<(), Error> {
        let Some(pod) = succession::pod_to_observe(
            self.lease(),
            &self.observed.pod,
            self.observed.successor.as_ref(),
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
        let sighting = Sighting {
            namespace: &lease.namespace,
            pod_name: &lease.pod_name,
            pod_uid,
            controller,
            pod_created_at: None,
            request,
        };
        self.worker.store.sight(self.worker.cluster, &sighting).await?;
        self.worker.due.notify_one();
        Ok(())
    }

    /// Reports the wait on the pod and pauses.
    pub(crate) async fn wait(&self, wait: Wait) -> Result<After, Error> {
        self.report_wait(&wait).await?;
        Ok(After::Pause(Pause::from(wait)))
    }
}

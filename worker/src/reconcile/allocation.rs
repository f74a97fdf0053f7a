//! Takes what a lease holds: an EIP that was not bought for it, ports; and waits where another
//! lease has it.

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
    /// The first of these that no other lease has; the wait is for where each has one.
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

    /// Asks the older pod's lease for its EIP, which gives it up by itself.
    pub(crate) async fn take_over(&self, id: &AllocationId) -> Result<(), Error> {
        self.claimed().take_over(id).await?;
        tracing::info!(lease.id = %self.lease().id, pod = self.pod_name(), eip.id = %id, "takes the EIP over from an older pod");
        self.worker.due.notify_one();
        Ok(())
    }

    /// Takes the PrePaid EIP that a lease on its way out leaves unused.
    pub(crate) async fn take_spare(&self, spare: LeaseId) -> Result<After, Error> {
        if !self.claimed().take_spare(spare).await? {
            return Ok(After::reread(
                "another pod was faster; the next look shows what is left",
                Patience::Poll,
            ));
        }
        tracing::info!(lease.id = %self.lease().id, pod = self.pod_name(), former.lease = %spare, "takes a PrePaid EIP that waited unused");
        self.worker.due.notify_one();
        Ok(After::Next)
    }

    /// Reserves all ports on one EIP, of the zone's gateways first.
    pub(crate) async fn reserve_ports(&self, zone: &ZoneId) -> Result<After, Error> {
        let Request::Dnat(request) = &self.lease().request else { return Err(Error::Changed) };
        let config = &self.worker.config;
        let gateways = config.gateways_of(&self.lease().namespace);
        let candidates = self.worker.pool.candidates(&gateways, zone);
        let reserved = match self.claimed().reserve_ports(request, &candidates).await {
            Ok(reserved) => reserved,
            // A former pod's entry still forwards to this port of the pod's IP.
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

    /// The lease's gateway has no room for all its entries.
    pub(crate) async fn spill(&self) -> Result<(), Error> {
        self.claimed().spill().await?;
        tracing::info!(lease.id = %self.lease().id, pod = self.pod_name(), "its gateway is full; what it has there is given back");
        Ok(())
    }

    /// Where a unique constraint says that another lease holds the thing: waits for that one, and
    /// says so.
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
        tracing::debug!(lease.id = %self.claim.lease_id, constraint = constraint.index(), "another lease holds it");
        self.wait(wait).await
    }

    /// A former pod's entries still point at this pod's address: what takes them away goes before
    /// everything else that waits.
    async fn expedite_removal(&self) -> Result<(), Error> {
        let Some(ip) = reads::pod_ip(&self.observed.pod) else { return Ok(()) };
        for gateway in self.worker.store.hurry(self.lease().id, ip).await? {
            self.worker.lanes.queued(&gateway);
        }
        self.worker.due.notify_one();
        Ok(())
    }

    /// Makes sure that the pod which asks next has a lease.
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
        // When it was made is known from its next event.
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

    /// Waits, and tells the pod.
    pub(crate) async fn wait(&self, wait: Wait) -> Result<After, Error> {
        self.report_wait(&wait).await?;
        Ok(After::Pause(Pause::from(wait)))
    }
}

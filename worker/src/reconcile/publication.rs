//! Publishes an address and withdraws it: carries out the writes that
//! `waygate_core::rules::publishing` lists, in their order.

use super::pass::Pass;
use crate::errors::Error;
use crate::objects::{custom_resource, pod};
use k8s_openapi::api::core::v1::Pod;
use waygate_core::lease::Phase;
use waygate_core::plan::{Publication, Withdrawal};
use waygate_core::rules::publishing::{self, EventKind, Write};

impl Pass<'_> {
    /// Publishes an address that has been proven to work.
    pub(crate) async fn publish(&self, publication: &Publication) -> Result<(), Error> {
        if self.observed.live.is_none() {
            return Err(Error::Changed);
        }
        let (lease, observed) = (self.lease(), self.observed);
        self.write_all(publishing::publication(
            lease.phase,
            &observed.pod,
            &observed.resource,
            publication,
        ))
        .await?;
        if lease.phase != Phase::Held {
            self.worker.metrics.published(lease);
            tracing::info!(
                lease.id = %lease.id, pod = self.pod_name(), address = publication.annotation,
                "address published"
            );
        }
        Ok(())
    }

    /// Withdraws an address that is about to stop working, or already has.
    pub(crate) async fn withdraw(&self, withdrawal: &Withdrawal) -> Result<(), Error> {
        let (lease, observed) = (self.lease(), self.observed);
        self.write_all(publishing::withdrawal(
            lease.phase,
            &observed.pod,
            &observed.resource,
            withdrawal,
        ))
        .await?;
        tracing::info!(
            lease.id = %lease.id, pod = self.pod_name(), reason = withdrawal.reason.as_str(),
            "address withdrawn"
        );
        Ok(())
    }

    /// Withdraws an address whose entries vanished, unless the gateway's loss limit is reached: the
    /// next pass then finds withdrawals limited.
    pub(crate) async fn withdraw_lost(&self, withdrawal: &Withdrawal) -> Result<(), Error> {
        let Some(port) = self.lease().ports.first() else { return Err(Error::Changed) };
        if self.claimed().lose(&port.gateway_id).await? {
            return self.withdraw(withdrawal).await;
        }
        self.worker.metrics.losses_held(&port.gateway_id);
        tracing::error!(
            gateway.id = %port.gateway_id,
            pod = self.pod_name(),
            "withdrawals limited: many pods of the NAT gateway lost their forward entries within \
             ten minutes; conditions stay True and missing entries are created again where that \
             is safe; check whether an operator deleted them and whether the credentials belong \
             to the gateway's account"
        );
        Ok(())
    }

    async fn write_all(&self, writes: Vec<Write>) -> Result<(), Error> {
        let mut live = self.observed.live.clone();
        for write in writes {
            if let Some(written) = self.write(live.as_deref(), write).await? {
                live = Some(written);
            }
        }
        Ok(())
    }

    /// Carries out one write on `live`; returns the pod anew where the write changed its version.
    async fn write(&self, live: Option<&Pod>, write: Write) -> Result<Option<Box<Pod>>, Error> {
        let (worker, lease, resource) = (self.worker, self.lease(), &self.observed.resource);
        match write {
            Write::Status(Some(content)) => {
                custom_resource::show(worker, lease, resource, &content).await?;
            }
            Write::Status(None) => custom_resource::clear(worker, lease, resource).await?,
            Write::Phase(phase) => self.claimed().set_phase(phase).await?,
            Write::Annotation(value) => {
                let live = live.ok_or(Error::Changed)?;
                return Ok(Some(
                    pod::write_announcement(worker, live, lease.kind, value.as_deref()).await?,
                ));
            }
            Write::Condition(told) => {
                pod::write_condition(worker, live.ok_or(Error::Changed)?, lease.kind, &told)
                    .await?;
            }
            Write::Event(event) => {
                let live = live.ok_or(Error::Changed)?;
                match event.kind {
                    EventKind::Normal => {
                        worker.events.normal(live, event.reason, &event.message).await;
                    }
                    EventKind::Warning => {
                        worker.events.warning(live, event.reason, &event.message).await;
                    }
                }
            }
        }
        Ok(None)
    }
}

//! Publishes an address and withdraws it: carries out the writes that
//! `waygate_core::rules::publishing` lists, in their order.

use super::pass::Pass;
use crate::errors::Error;
use crate::objects::{custom_resource, pod};
use k8s_openapi::api::core::v1::Pod;
use waygate_core::lease::Phase;
use waygate_core::plan::{Publication, Withdrawal};
use waygate_core::rules::publishing::{self, EventKind, PublishWrite};

impl Pass<'_> {
    /// Publishes an address that has been proven to work.
    pub(crate) async fn publish_address(&self, publication: &Publication) -> Result<(), Error> {
        if self.observation.live.is_none() {
            return Err(Error::Changed);
        }
        let (lease, observed) = (self.lease(), self.observation);
        self.apply_writes(publishing::publication_writes(
            lease.phase,
            &observed.pod,
            &observed.resource,
            publication,
        ))
        .await?;
        if lease.phase != Phase::Bound {
            self.worker.metrics.observe_time_to_publish(lease);
            tracing::info!(
                lease.id = %lease.id, pod = self.pod_name(), address = publication.annotation,
                "address published"
            );
        }
        Ok(())
    }

    /// Withdraws an address that is about to stop working, or already has.
    pub(crate) async fn withdraw_address(&self, withdrawal: &Withdrawal) -> Result<(), Error> {
        let (lease, observed) = (self.lease(), self.observation);
        self.apply_writes(publishing::withdrawal_writes(
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
    pub(crate) async fn withdraw_within_limit(&self, withdrawal: &Withdrawal) -> Result<(), Error> {
        let Some(port) = self.lease().ports.first() else { return Err(Error::Changed) };
        if self.under_claim().try_count_loss(&port.gateway_id).await? {
            return self.withdraw_address(withdrawal).await;
        }
        self.worker.metrics.count_limited_withdrawal(&port.gateway_id);
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

    async fn apply_writes(&self, writes: Vec<PublishWrite>) -> Result<(), Error> {
        let mut live = self.observation.live.clone();
        for write in writes {
            if let Some(written) = self.apply_write(live.as_deref(), write).await? {
                live = Some(written);
            }
        }
        Ok(())
    }

    /// Carries out one write on `live`; returns the pod anew where the write changed its version.
    async fn apply_write(
        &self,
        live: Option<&Pod>,
        write: PublishWrite,
    ) -> Result<Option<Box<Pod>>, Error> {
        let (worker, lease, resource) = (self.worker, self.lease(), &self.observation.resource);
        match write {
            PublishWrite::Status(Some(content)) => {
                custom_resource::publish_in_status(worker, lease, resource, &content).await?;
            }
            PublishWrite::Status(None) => {
                custom_resource::clear_status(worker, lease, resource).await?;
            }
            PublishWrite::Phase(phase) => self.under_claim().set_phase(phase).await?,
            PublishWrite::Annotation(value) => {
                let live = live.ok_or(Error::Changed)?;
                return Ok(Some(
                    pod::write_address_annotation(worker, live, lease.kind, value.as_deref())
                        .await?,
                ));
            }
            PublishWrite::Condition(condition) => {
                pod::write_condition(worker, live.ok_or(Error::Changed)?, lease.kind, &condition)
                    .await?;
            }
            PublishWrite::Event(event) => {
                let live = live.ok_or(Error::Changed)?;
                match event.kind {
                    EventKind::Normal => {
                        worker.events.write_normal(live, event.reason, &event.message).await;
                    }
                    EventKind::Warning => {
                        worker.events.write_warning(live, event.reason, &event.message).await;
                    }
                }
            }
        }
        Ok(None)
    }
}

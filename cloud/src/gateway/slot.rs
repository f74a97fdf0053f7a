//! Write slots: permission to send one change of forward entries to a gateway. The sender first
//! waits for the slot and chooses the change afterwards.

use super::limiter::LimiterSlot;
use crate::change;
use crate::error::Error;
use crate::transport::{Transport, vpc_action};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waygate_core::change::{Answer, Change};

/// Permission to send one change to a NAT gateway now. Dropping an unused slot sends nothing.
#[must_use]
#[derive(Debug)]
pub struct WriteSlot {
    transport: Arc<Transport>,
    limiter_slot: LimiterSlot,
}

impl WriteSlot {
    /// A write slot from a slot that the gateway's limiter has given.
    pub(crate) fn new(transport: &Arc<Transport>, limiter_slot: LimiterSlot) -> Self {
        Self { transport: Arc::clone(transport), limiter_slot }
    }

    /// True if a read has just shown all entries of the gateway settled.
    pub fn is_confirmed_settled(&self) -> bool {
        self.limiter_slot.is_confirmed_settled()
    }

    /// Sends one change, once, and reports the outcome to the gateway's limiter. `deadline` covers
    /// permit, credentials and call.
    pub async fn send_change(
        mut self,
        change: &Change,
        token: Option<&str>,
        deadline: Duration,
    ) -> Result<Answer, Error> {
        self.limiter_slot.mark_sent();
        let result = self.send_within(change, token, Instant::now() + deadline).await;
        self.limiter_slot.record_result(change, &result);
        result
    }

    async fn send_within(
        &self,
        change: &Change,
        token: Option<&str>,
        deadline: Instant,
    ) -> Result<Answer, Error> {
        let permit = self.transport.acquire_permit(vpc_action(change.action()), deadline).await?;
        change::send_once(&self.transport, permit, change, token, deadline).await
    }
}

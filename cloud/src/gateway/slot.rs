//! Write slots: permission to send one change of forward entries to a gateway. The sender first
//! waits for the slot and chooses the change afterwards.

use super::limiter::Entered;
use crate::change;
use crate::error::Error;
use crate::transport::Transport;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waygate_core::change::{Answer, Change};

/// Permission to send one change to a NAT gateway now. Dropping an unused slot sends nothing.
#[must_use]
#[derive(Debug)]
pub struct Turn {
    transport: Arc<Transport>,
    entered: Entered,
}

impl Turn {
    /// A write slot from a slot that the gateway's limiter has given.
    pub(crate) fn new(transport: &Arc<Transport>, entered: Entered) -> Self {
        Self { transport: Arc::clone(transport), entered }
    }

    /// True if a read has just shown all entries of the gateway settled.
    pub fn is_rested(&self) -> bool {
        self.entered.is_rested()
    }

    /// Sends one change, once, and reports the outcome to the gateway's limiter. `deadline` covers
    /// permit, credentials and call.
    pub async fn change(
        mut self,
        change: &Change,
        token: Option<&str>,
        deadline: Duration,
    ) -> Result<Answer, Error> {
        self.entered.sends();
        let result = change::send(&self.transport, change, token, Instant::now() + deadline).await;
        self.entered.done(change, &result);
        result
    }
}

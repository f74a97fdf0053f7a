//! A change of DNAT entries in two moves: first the gateway's turn is waited for, and only then it
//! is chosen what is sent.

use super::limiter::Entered;
use crate::change;
use crate::error::Error;
use crate::transport::Transport;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waygate_core::change::{Answer, Change};

/// The turn of one change at a NAT gateway. Dropped, nothing was sent.
#[must_use]
#[derive(Debug)]
pub struct Turn {
    transport: Arc<Transport>,
    entered: Entered,
}

impl Turn {
    /// The turn of a change that was let in.
    pub(crate) fn new(transport: &Arc<Transport>, entered: Entered) -> Self {
        Self { transport: Arc::clone(transport), entered }
    }

    /// Whether a read has just shown that all entries of the gateway are at rest.
    pub fn is_rested(&self) -> bool {
        self.entered.is_rested()
    }

    /// Sends one change, once, as [`crate::Cloud::change`] does.
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

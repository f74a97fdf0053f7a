//! The gateway limiter: holds a change back until its gateway is likely to accept it.
//!
//! The limiter itself sends nothing and resends nothing. The concurrency window decides when a
//! change may go; the entry cache keeps the last list of entries for callers that accept a slightly
//! older one.

use super::entry_cache::{Entries, EntryCache, PendingEntry, is_unsettled};
use super::window::{ChangeOutcome, ConcurrencyWindow, InFlight, RequiredEvidence, SlotState};
use crate::error::{Class, Error, Scope};
use crate::transport::Read;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use waygate_core::change::{Answer, Change};
use waygate_core::cloud_facts::ForwardEntry;
use waygate_core::error::error_chain;
use waygate_core::ids::NatGatewayId;

/// The limiters of all gateways, created at first use and kept: gateways are few.
#[derive(Debug, Default)]
pub(crate) struct GatewayLimiters(Mutex<HashMap<NatGatewayId, Arc<GatewayLimiter>>>);

impl GatewayLimiters {
    pub(crate) fn limiter_of(&self, gateway: &NatGatewayId) -> Arc<GatewayLimiter> {
        let mut limiters = self.0.lock();
        let limiter = limiters
            .entry(gateway.clone())
            .or_insert_with(|| Arc::new(GatewayLimiter::new(gateway.clone())));
        Arc::clone(limiter)
    }
}

/// The limiter of one gateway, shared by all clones of the client.
#[derive(Debug)]
pub(crate) struct GatewayLimiter {
    /// Names the gateway in logs.
    gateway: NatGatewayId,
    /// Locked by the first change in the queue. Tokio's mutex is fair, so the queue keeps its
    /// order.
    queue: tokio::sync::Mutex<()>,
    window: Mutex<ConcurrencyWindow>,
    entry_cache: Mutex<EntryCache>,
    changed: Notify,
}

/// The read that shows if a gateway's entries are settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// All entries: a change that this process does not know of is under way.
    List,
    /// Only the entry this process changed last: one call however long the list is, and no batch to
    /// wait for.
    Entry(PendingEntry),
}

impl GatewayLimiter {
    fn new(gateway: NatGatewayId) -> Self {
        Self {
            gateway,
            queue: tokio::sync::Mutex::default(),
            window: Mutex::default(),
            entry_cache: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Waits until a change may be sent; `evidence` is the least evidence that the entries are
    /// settled. `probe` sends a probe, and its result comes back as a recorded list or entry.
    pub(crate) async fn acquire_slot<T>(
        self: Arc<Self>,
        evidence: RequiredEvidence,
        probe: impl Fn(Probe) -> T,
    ) -> LimiterSlot
    where
        T: Future<Output = Result<(), Error>>,
    {
        let _queue_guard = self.queue.lock().await;
        loop {
            // Registered before the window is asked, so that no change in between is missed.
            let changed = self.changed.notified();
            let next = self.window.lock().try_acquire(Instant::now(), evidence);
            match next {
                SlotState::Acquired(in_flight) => {
                    return LimiterSlot {
                        limiter: Arc::clone(&self),
                        in_flight: Some(in_flight),
                        sent_at: None,
                    };
                }
                SlotState::AwaitAnswer => changed.await,
                SlotState::WaitUntil(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = changed => {}
                },
                SlotState::ProbeFirst => {
                    if let Err(error) = probe(self.next_probe()).await {
                        tracing::warn!(
                            gateway.id = %self.gateway,
                            cloud.reason = error.reason(),
                            error = error_chain(&error),
                            "probing the gateway's entries failed; trying again"
                        );
                        self.window.lock().record_failed_probe(Instant::now());
                    }
                }
            }
        }
    }

    /// True if a change must wait until all entries are settled.
    pub(crate) fn requires_quiescence(&self) -> bool {
        self.window.lock().is_quiescence_required()
    }

    fn next_probe(&self) -> Probe {
        self.entry_cache.lock().last_pending().cloned().map_or(Probe::List, Probe::Entry)
    }

    /// Locks the gateway's entry cache.
    pub(crate) fn lock_entry_cache(&self) -> MutexGuard<'_, EntryCache> {
        self.entry_cache.lock()
    }

    /// Records a list of all entries, read for any caller.
    pub(crate) fn record_list(&self, entries: &Entries) {
        self.update_window(entries.began, !entries.value.iter().any(is_unsettled));
        self.lock_entry_cache().replace_list(entries);
    }

    /// Records a probe of the last changed entry, the only one that was pending.
    pub(crate) fn record_entry(&self, pending: &PendingEntry, entry: &Read<Option<ForwardEntry>>) {
        self.lock_entry_cache().merge_entry(pending, entry);
        self.update_window(entry.began, pending.is_settled_in(entry.value.as_ref()));
    }

    fn update_window(&self, began: Instant, settled: bool) {
        self.window.lock().record_read(began, settled, Instant::now());
        self.changed.notify_waiters();
    }
}

/// The limiter's slot for one change. Dropped before the send, it leaves no trace; dropped after,
/// it counts as a change with an unknown outcome.
#[derive(Debug)]
pub(crate) struct LimiterSlot {
    limiter: Arc<GatewayLimiter>,
    in_flight: Option<InFlight>,
    /// The time from which the change may have reached the gateway.
    sent_at: Option<Instant>,
}

impl LimiterSlot {
    /// True if a read has just shown all entries settled.
    pub(crate) fn is_confirmed_settled(&self) -> bool {
        self.in_flight.is_some_and(InFlight::is_confirmed_settled)
    }

    /// Marks the change as sent: from now on it may reach the gateway.
    pub(crate) fn mark_sent(&mut self) {
        self.sent_at = Some(Instant::now());
    }

    /// Records the outcome of the change in entry cache and window.
    pub(crate) fn record_result(mut self, change: &Change, result: &Result<Answer, Error>) {
        let outcome = change_outcome(result);
        let by_estimate = self.in_flight.is_some_and(InFlight::is_by_estimate);
        let answered = Instant::now();
        match result {
            Ok(answer) => self.limiter.lock_entry_cache().record_accepted(
                PendingEntry::started_by(change, answer),
                self.sent_at.unwrap_or(answered),
                answered,
            ),
            // The same entry is still pending: nothing was sent, or the estimate was too short.
            Err(_)
                if outcome == ChangeOutcome::NotSent
                    || (outcome == ChangeOutcome::EntryUnsettled && by_estimate) => {}
            Err(error) if error.is_definite() => self.limiter.lock_entry_cache().record_refused(),
            Err(_) => self.limiter.lock_entry_cache().clear_all(),
        }
        self.leave_window(outcome);
    }

    fn leave_window(&mut self, outcome: ChangeOutcome) {
        if let Some(in_flight) = self.in_flight.take() {
            self.limiter.window.lock().finish_change(
                in_flight,
                outcome,
                Instant::now(),
                rand::random_range(0.5..1.5),
            );
            self.limiter.changed.notify_waiters();
        }
    }
}

impl Drop for LimiterSlot {
    fn drop(&mut self) {
        if self.in_flight.is_some() && self.sent_at.is_some() {
            // The caller gave up on the answer, so the change may or may not have taken effect.
            self.limiter.lock_entry_cache().clear_all();
        }
        self.leave_window(if self.sent_at.is_some() {
            ChangeOutcome::Other
        } else {
            ChangeOutcome::NotSent
        });
    }
}

/// The outcome of a change for the gateway's capacity. Only a conflict limits the capacity; its
/// code says if an entry or the gateway causes it.
fn change_outcome<T>(result: &Result<T, Error>) -> ChangeOutcome {
    let error = match result {
        Ok(_) => return ChangeOutcome::Accepted,
        Err(Error::NotSent { .. }) => return ChangeOutcome::NotSent,
        Err(error) => error,
    };
    match (error.class(), error.scope()) {
        (Class::Conflict, Some(Scope::Entry)) => ChangeOutcome::EntryUnsettled,
        (Class::Conflict, Some(Scope::Gateway)) => ChangeOutcome::GatewayBusy,
        _ => ChangeOutcome::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{NotSentCause, Refusal};

    const ACTION: &str = "CreateForwardEntry";

    fn refused(code: &str, message: &str) -> Result<(), Error> {
        let refusal = Refusal {
            action: ACTION,
            status: 400,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: String::new(),
            denied_action: None,
            retry_after: None,
        };
        Err(Error::Refused(Arc::new(refusal)))
    }

    #[test]
    fn only_a_conflict_at_the_gateway_says_how_much_it_takes() {
        for (code, outcome) in [
            ("OperationConflict", ChangeOutcome::GatewayBusy),
            ("TaskConflict", ChangeOutcome::GatewayBusy),
            ("IncorrectStatus.NATGW", ChangeOutcome::GatewayBusy),
            ("IncorretForwardEntryStatus", ChangeOutcome::EntryUnsettled),
            ("IncorrectStatus.ForwardEntry", ChangeOutcome::EntryUnsettled),
            ("InvalidExternalIp.NotFound", ChangeOutcome::Other),
            ("OperationUnsupported.EipInBinding", ChangeOutcome::Other),
            ("QuotaExceeded", ChangeOutcome::Other),
            ("InvalidForwardTableId.NotFound", ChangeOutcome::Other),
            ("Forbidden.FinancialLocked", ChangeOutcome::Other),
            ("Throttling.User", ChangeOutcome::Other),
            ("IncorrectStatus.Unlisted", ChangeOutcome::Other),
        ] {
            assert_eq!(change_outcome(&refused(code, "")), outcome, "{code}");
        }
    }

    #[test]
    fn an_absent_entry_is_not_an_unsettled_one() {
        assert_eq!(
            change_outcome(&refused(
                "IncorretForwardEntryStatus",
                "The Specified forwardEntry is not exist"
            )),
            ChangeOutcome::Other
        );
    }

    #[test]
    fn an_unsent_change_is_distinguished_from_an_unanswered_one() {
        assert_eq!(change_outcome(&Ok(())), ChangeOutcome::Accepted);
        assert_eq!(
            change_outcome::<()>(&Err(Error::NotSent {
                action: ACTION,
                cause: NotSentCause::Permit { retry_after: None }
            })),
            ChangeOutcome::NotSent
        );
        assert_eq!(
            change_outcome::<()>(&Err(Error::Deadline { action: ACTION })),
            ChangeOutcome::Other
        );
    }
}

//! Where changes of a gateway's DNAT entries take their turns.
//!
//! The gate sends nothing and resends nothing. It keeps a change back until its gateway is likely to take it, see [`Lane`]; the last list of
//! entries that passed by is kept for those who may do with it.

use crate::error::{Class, Error};
use crate::lane::{End, Lane, Next, Pass};
use crate::transport::Read;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use waygate_core::change::{Answer, Change};
use waygate_core::facts::{ForwardEntry, ForwardEntryStatus};
use waygate_core::ids::{ForwardEntryId, NatGatewayId};

/// The gates of all gateways. There are as many as gateways, which are few.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<NatGatewayId, Arc<Gate>>>);

impl Gates {
    pub(crate) fn of(&self, gateway: &NatGatewayId) -> Arc<Gate> {
        Arc::clone(lock(&self.0).entry(gateway.clone()).or_default())
    }
}

/// One gateway's gate.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Held by the first in the queue; tokio's mutex is fair.
    turn: tokio::sync::Mutex<()>,
    lane: Mutex<Lane>,
    /// What the last change that was taken has set in motion.
    moving: Mutex<Option<Moving>>,
    latest: Mutex<Option<Latest>>,
    news: Notify,
}

/// The last list, with what was seen of single entries since.
#[derive(Debug)]
struct Latest {
    entries: Read<Arc<Vec<ForwardEntry>>>,
    /// When the list itself was asked for.
    listed: Instant,
}

/// How old a list may be into which single entries are still entered: what others do at the gateway shows after this at the latest.
const ENTERED: Duration = Duration::from_secs(10);

/// An entry on its way to something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moving {
    /// To stand.
    In(ForwardEntryId),
    /// To be gone.
    Out(ForwardEntryId),
}

/// What must be read to know whether a table is at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// All entries: something else is under way than what we know of.
    List,
    /// Just the one we have changed: one call however long the list is, and nobody else waits for it.
    Entry(Moving),
}

impl Gate {
    /// Waits for a change's turn. `look` reads what is needed to know; what it shows comes through [`Self::listed`] and [`Self::shown`].
    pub(crate) async fn enter<T>(self: Arc<Self>, look: impl Fn(Look) -> T) -> Entered
    where
        T: Future<Output = Result<(), Error>>,
    {
        let _turn = self.turn.lock().await;
        loop {
            let news = self.news.notified();
            let next = lock(&self.lane).next(Instant::now());
            match next {
                Next::Go(pass) => return Entered { gate: Arc::clone(&self), pass: Some(pass), sent: Sent::No },
                Next::Wait => news.await,
                Next::Until(until) => tokio::select! {
                    () = sleep_until(until) => {}
                    () = news => {}
                },
                Next::Look => {
                    if let Err(error) = look(self.look()).await {
                        tracing::warn!(cloud.reason = error.reason(), "a DNAT table could not be read before a change: {error}");
                        lock(&self.lane).unseen(Instant::now());
                    }
                }
            }
        }
    }

    /// Whether the next change waits until everything is at rest.
    pub(crate) fn is_calm(&self) -> bool {
        lock(&self.lane).is_calm()
    }

    fn look(&self) -> Look {
        lock(&self.moving).clone().map_or(Look::List, Look::Entry)
    }

    /// The last list, if whatever went through this gate shows in it as it was at `since` or later.
    pub(crate) fn latest(&self, since: Instant) -> Option<Read<Arc<Vec<ForwardEntry>>>> {
        lock(&self.latest).as_ref().map(|latest| latest.entries.clone()).filter(|entries| entries.began >= since)
    }

    /// Others have changed the gateway.
    pub(crate) fn forget(&self) {
        *lock(&self.latest) = None;
    }

    /// Every list of entries is news, whoever asked for it.
    pub(crate) fn listed(&self, entries: &Read<Arc<Vec<ForwardEntry>>>) {
        self.seen(entries.began, !entries.value.iter().any(is_moving));
        let mut latest = lock(&self.latest);
        if latest.as_ref().is_none_or(|known| known.entries.began <= entries.began) {
            *latest = Some(Latest { entries: entries.clone(), listed: entries.began });
        }
    }

    /// What became of one entry: the only thing that was under way.
    pub(crate) fn shown(&self, moving: &Moving, entry: &Read<Option<ForwardEntry>>) {
        let at_rest = match (moving, &entry.value) {
            // A new entry may not show at once.
            (Moving::In(_), None) => false,
            (Moving::Out(_), None) => true,
            (_, Some(entry)) => !is_moving(entry),
        };
        if at_rest && let Some(latest) = lock(&self.latest).as_mut() {
            latest.enter(moving, entry);
        }
        self.seen(entry.began, at_rest);
    }

    fn seen(&self, began: Instant, at_rest: bool) {
        lock(&self.lane).seen(began, at_rest, Instant::now());
        self.news.notify_waiters();
    }
}

impl Latest {
    fn enter(&mut self, moving: &Moving, entry: &Read<Option<ForwardEntry>>) {
        if entry.began <= self.entries.began || entry.began > self.listed + ENTERED {
            return;
        }
        let (Moving::In(id) | Moving::Out(id)) = moving;
        let entries = Arc::make_mut(&mut self.entries.value);
        entries.retain(|known| known.entry_id != *id);
        entries.extend(entry.value.clone());
        self.entries.began = entry.began;
    }
}

fn is_moving(entry: &ForwardEntry) -> bool {
    matches!(entry.status, ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting)
}

/// A change's turn. Dropped before it is sent, nothing has happened; dropped after, it counts as ended with nothing known.
#[derive(Debug)]
pub(crate) struct Entered {
    gate: Arc<Gate>,
    pass: Option<Pass>,
    sent: Sent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    No,
    Yes,
}

impl Entered {
    /// Whether a read has just shown everything at rest.
    pub(crate) fn is_rested(&self) -> bool {
        self.pass.is_some_and(Pass::is_rested)
    }

    /// From here on the change may reach the gateway.
    pub(crate) fn sends(&mut self) {
        self.sent = Sent::Yes;
    }

    /// Tells the gate how the change ended.
    pub(crate) fn done(mut self, change: &Change, result: &Result<Answer, Error>) {
        let end = end_of(&result.as_ref());
        if end != End::Unsent {
            *lock(&self.gate.moving) = result.as_ref().ok().and_then(|answer| moving(change, answer));
        }
        self.end(end);
    }

    fn end(&mut self, end: End) {
        if let Some(pass) = self.pass.take() {
            lock(&self.gate.lane).end(pass, end, Instant::now(), rand::random_range(0.5..1.5));
            self.gate.news.notify_waiters();
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.end(if self.sent == Sent::Yes { End::Other } else { End::Unsent });
    }
}

fn moving(change: &Change, answer: &Answer) -> Option<Moving> {
    match change {
        Change::CreateForwardEntry(_) => answer.entry_id.clone().map(Moving::In),
        Change::ModifyForwardEntry { entry_id, .. } => Some(Moving::In(entry_id.clone())),
        Change::DeleteForwardEntry { entry_id, .. } => Some(Moving::Out(entry_id.clone())),
        _ => None,
    }
}

pub(crate) fn end_of<T>(result: &Result<T, &Error>) -> End {
    match result {
        Ok(_) => End::Taken,
        Err(Error::NotSent { .. }) => End::Unsent,
        Err(error) if error.class() == Class::Conflict => match error.code() {
            Some("IncorretForwardEntryStatus" | "IncorrectStatus.ForwardEntry") => End::Unsettled,
            Some("OperationConflict" | "TaskConflict" | "IncorrectStatus.NATGW") => End::Busy,
            _ => End::Other,
        },
        Err(_) => End::Other,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Scheduled events, in order of time.

use std::{cmp::Reverse, collections::BinaryHeap};

use jiff::Timestamp;

/// Something that leaves a passing state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The association, or the release, of this EIP ends.
    Eip(String),
    /// The entry of this EIP into a bandwidth package ends.
    Member(String),
    /// The creation, change or deletion of this forward entry ends.
    Entry(String),
}

/// A queue of events; the owner of each resource keeps when it settles and ignores an event of
/// another time.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline(BinaryHeap<Reverse<(Timestamp, Event)>>);

impl Timeline {
    pub(super) fn push_event(&mut self, due: Timestamp, event: Event) {
        self.0.push(Reverse((due, event)));
    }

    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, Event)> {
        if self.0.peek()?.0.0 > now {
            return None;
        }
        self.0.pop().map(|Reverse(next)| next)
    }
}

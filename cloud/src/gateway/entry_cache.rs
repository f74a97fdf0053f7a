//! The entry cache: the last list of a gateway's forward entries, with single entries merged in.
//!
//! ```text
//! a change is accepted ─▶ unread ─┬─ all entries listed ─▶ read
//!                                 └─ this entry merged ──▶ read
//! ```
//!
//! The list is as good as new once no change is unread. Lists are long and a busy gateway has many
//! leases: reading a single entry takes one call, and all leases share the list it is merged into.

use crate::transport::Read;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use waygate_core::change::{Answer, Change};
use waygate_core::cloud_facts::{ForwardEntry, ForwardEntryStatus};
use waygate_core::ids::ForwardEntryId;

/// Oldest list into which single entries are still merged: changes by other writers show after this
/// time at the latest.
const MAX_LIST_AGE: Duration = Duration::from_secs(10);
/// Most unread changes. Reading more entries one by one would cost more than a new list.
const MAX_UNREAD: usize = 16;

pub(crate) type Entries = Read<Arc<Vec<ForwardEntry>>>;

/// A forward entry that an accepted change set in motion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PendingEntry {
    /// Created or modified: will be in the list as `Available`.
    Appearing(ForwardEntryId),
    /// Deleted: will no longer be in the list.
    Disappearing(ForwardEntryId),
}

impl PendingEntry {
    /// The pending entry of an accepted change; `None` for changes of EIPs.
    pub(crate) fn started_by(change: &Change, answer: &Answer) -> Option<Self> {
        match change {
            Change::CreateForwardEntry(_) => answer.entry_id.clone().map(Self::Appearing),
            Change::ModifyForwardEntry { entry_id, .. } => Some(Self::Appearing(entry_id.clone())),
            Change::DeleteForwardEntry { entry_id, .. } => {
                Some(Self::Disappearing(entry_id.clone()))
            }
            _ => None,
        }
    }

    /// ID of the pending entry.
    pub(crate) fn entry_id(&self) -> &ForwardEntryId {
        let (Self::Appearing(id) | Self::Disappearing(id)) = self;
        id
    }

    /// True if a read with this result shows the entry settled; `None` is a read without the entry.
    pub(crate) fn is_settled_in(&self, shown: Option<&ForwardEntry>) -> bool {
        match (self, shown) {
            // The cloud may list a new entry only after a moment.
            (Self::Appearing(_), None) => false,
            (Self::Disappearing(_), None) => true,
            (_, Some(entry)) => !is_unsettled(entry),
        }
    }
}

pub(crate) fn is_unsettled(entry: &ForwardEntry) -> bool {
    matches!(entry.status, ForwardEntryStatus::Pending | ForwardEntryStatus::Deleting)
}

/// The known state of one gateway's entries.
#[derive(Debug, Default)]
pub(crate) struct EntryCache {
    cached_list: Option<CachedList>,
    /// Accepted changes that no list shows yet, the oldest first.
    unread: Vec<UnreadChange>,
    /// The entry set in motion by the last change; `None` where unknown.
    last_pending: Option<PendingEntry>,
}

#[derive(Debug)]
struct CachedList {
    /// Includes every change of this process that was answered before `entries.began`.
    entries: Entries,
    /// The time the list itself was requested; merges do not move it.
    listed_at: Instant,
}

#[derive(Debug)]
struct UnreadChange {
    pending: PendingEntry,
    sent: Instant,
    answered: Instant,
}

impl EntryCache {
    /// The entry set in motion by the last change; `None` where unknown.
    pub(crate) fn last_pending(&self) -> Option<&PendingEntry> {
        self.last_pending.as_ref()
    }

    /// Records an accepted change. An unknown effect (`pending` is `None`) drops everything cached.
    pub(crate) fn record_accepted(
        &mut self,
        pending: Option<PendingEntry>,
        sent: Instant,
        answered: Instant,
    ) {
        let Some(pending) = pending else { return self.clear_all() };
        self.last_pending = Some(pending.clone());
        self.unread.push(UnreadChange { pending, sent, answered });
        if self.unread.len() > MAX_UNREAD {
            (self.cached_list, self.unread) = (None, Vec::new());
        }
    }

    /// Records a refusal: an unknown change is under way, so only a list can show the entries
    /// settled.
    pub(crate) fn record_refused(&mut self) {
        self.last_pending = None;
    }

    /// Drops everything cached, because an unknown change may have happened.
    pub(crate) fn clear_all(&mut self) {
        *self = Self::default();
    }

    /// Replaces the cached list, unless `entries` is older.
    pub(crate) fn replace_list(&mut self, entries: &Entries) {
        if self.cached_list.as_ref().is_none_or(|latest| latest.entries.began <= entries.began) {
            self.unread.retain(|unseen| unseen.answered > entries.began);
            self.cached_list =
                Some(CachedList { entries: entries.clone(), listed_at: entries.began });
        }
    }

    /// Merges the read of one entry into the cached list, if the entry is settled.
    pub(crate) fn merge_entry(
        &mut self,
        pending: &PendingEntry,
        entry: &Read<Option<ForwardEntry>>,
    ) {
        if !pending.is_settled_in(entry.value.as_ref()) {
            return;
        }
        self.unread.retain(|unseen| unseen.pending != *pending || unseen.answered > entry.began);
        let Some(latest) = &mut self.cached_list else { return };
        if entry.began > latest.listed_at + MAX_LIST_AGE {
            self.cached_list = None;
            return;
        }
        let entries = Arc::make_mut(&mut latest.entries.value);
        entries.retain(|known| known.entry_id != *pending.entry_id());
        entries.extend(entry.value.clone());
        // The list is no newer than the oldest change that it may lack.
        let until = self.unread.iter().map(|unseen| unseen.sent).fold(entry.began, Instant::min);
        latest.entries.began = latest.entries.began.max(until);
    }

    /// The cached list, if it includes every change of this process answered before `since`.
    pub(crate) fn list_since(&self, since: Instant) -> Option<Entries> {
        self.cached_list
            .as_ref()
            .map(|latest| latest.entries.clone())
            .filter(|entries| entries.began >= since)
    }

    /// The unread changes whose entries are settled: a later change that had to wait for them was
    /// accepted.
    pub(crate) fn settled_unread(&self) -> Vec<PendingEntry> {
        self.unread
            .iter()
            .map(|unseen| &unseen.pending)
            .filter(|pending| Some(*pending) != self.last_pending.as_ref())
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waygate_core::ids::ForwardTableId;

    fn entry(id: &str) -> ForwardEntry {
        ForwardEntry {
            entry_id: ForwardEntryId::new(id),
            table_id: ForwardTableId::new("ftb-1"),
            name: String::new(),
            external_ip: [198, 18, 0, 1].into(),
            external_port: "80".to_owned(),
            internal_ip: [10, 0, 0, 1].into(),
            internal_port: "80".to_owned(),
            ip_protocol: "tcp".to_owned(),
            status: ForwardEntryStatus::Available,
        }
    }

    fn new(id: &str) -> PendingEntry {
        PendingEntry::Appearing(ForwardEntryId::new(id))
    }

    /// A cache whose list began at second zero with one entry, and a clock of seconds.
    fn listed() -> (EntryCache, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |second| start + Duration::from_secs(second);
        let mut cache = EntryCache::default();
        cache.replace_list(&Read { value: Arc::new(vec![entry("a")]), began: at(0) });
        (cache, at)
    }

    fn shown(cache: &EntryCache, since: Instant) -> Option<Vec<String>> {
        Some(
            cache.list_since(since)?.value.iter().map(|entry| entry.entry_id.to_string()).collect(),
        )
    }

    #[test]
    fn a_new_entry_is_entered_and_a_deleted_one_taken_out() {
        let (mut cache, at) = listed();
        cache.record_accepted(Some(new("b")), at(1), at(2));
        cache.merge_entry(&new("b"), &Read { value: Some(entry("b")), began: at(3) });
        assert_eq!(shown(&cache, at(3)), Some(vec!["a".to_owned(), "b".to_owned()]));
        cache.record_accepted(
            Some(PendingEntry::Disappearing(ForwardEntryId::new("a"))),
            at(4),
            at(5),
        );
        cache.merge_entry(
            &PendingEntry::Disappearing(ForwardEntryId::new("a")),
            &Read { value: None, began: at(6) },
        );
        assert_eq!(shown(&cache, at(6)), Some(vec!["b".to_owned()]));
        assert_eq!(shown(&cache, at(7)), None, "no read since");
    }

    #[test]
    fn an_entry_that_is_pending_or_not_listed_yet_is_not_merged() {
        let (mut cache, at) = listed();
        cache.record_accepted(Some(new("b")), at(1), at(2));
        let pending = ForwardEntry { status: ForwardEntryStatus::Pending, ..entry("b") };
        for value in [None, Some(pending)] {
            cache.merge_entry(&new("b"), &Read { value, began: at(3) });
            assert_eq!(shown(&cache, at(2)), None);
        }
        assert_eq!(shown(&cache, at(0)), Some(vec!["a".to_owned()]));
    }

    /// Two changes in a row: as long as one of them is unread, the list is no newer than its send.
    #[test]
    fn a_list_is_no_newer_than_the_oldest_change_that_it_lacks() {
        for order in [["b", "c"], ["c", "b"]] {
            let (mut cache, at) = listed();
            cache.record_accepted(Some(new("b")), at(1), at(2));
            cache.record_accepted(Some(new("c")), at(3), at(4));
            assert_eq!(cache.settled_unread(), [new("b")]);
            cache.merge_entry(&new(order[0]), &Read { value: Some(entry(order[0])), began: at(5) });
            let lacks = if order[0] == "b" { 3 } else { 1 };
            assert!(
                shown(&cache, at(lacks)).is_some() && shown(&cache, at(lacks + 1)).is_none(),
                "{order:?}"
            );
            cache.merge_entry(&new(order[1]), &Read { value: Some(entry(order[1])), began: at(6) });
            assert_eq!(shown(&cache, at(6)).map(|all| all.len()), Some(3));
            assert!(cache.settled_unread().is_empty());
        }
    }

    #[test]
    fn a_list_from_before_an_answer_does_not_show_what_was_done() {
        let (mut cache, at) = listed();
        cache.record_accepted(Some(new("b")), at(1), at(3));
        cache.replace_list(&Read { value: Arc::new(vec![entry("a")]), began: at(2) });
        cache.record_accepted(Some(new("c")), at(4), at(5));
        cache.merge_entry(&new("c"), &Read { value: Some(entry("c")), began: at(6) });
        assert_eq!(shown(&cache, at(3)), None, "it lacks the first one");
    }

    #[test]
    fn an_old_list_is_not_kept_up_to_date_for_ever() {
        let (mut cache, at) = listed();
        cache.record_accepted(Some(new("b")), at(12), at(13));
        cache.merge_entry(&new("b"), &Read { value: Some(entry("b")), began: at(14) });
        assert_eq!(shown(&cache, at(0)), None);
    }

    #[test]
    fn after_many_unread_changes_a_new_list_is_due() {
        let (mut cache, at) = listed();
        for number in 0..100 {
            cache.record_accepted(Some(new(&format!("n{number}"))), at(1), at(2));
        }
        assert_eq!(shown(&cache, at(0)), None);
        assert!(cache.unread.len() <= MAX_UNREAD);
    }

    #[test]
    fn a_change_that_may_have_happened_leaves_nothing_known() {
        let (mut cache, at) = listed();
        cache.clear_all();
        assert_eq!((shown(&cache, at(0)), cache.last_pending()), (None, None));
    }
}

//! Calls per account and minute: a window that slides, as the published figures are counts per 60
//! seconds.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::refusal::Refusal;

const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// Times of the accepted calls of the last minute, by action.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates(HashMap<&'static str, VecDeque<Timestamp>>);

impl Rates {
    /// Counts a call, or refuses it with the time until the next one fits.
    pub(super) fn admit_call(
        &mut self,
        action: &str,
        rates: &'static [(&'static str, usize)],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some((action, limit)) = rates.iter().find(|(name, _)| *name == action) else {
            return Ok(());
        };
        let times = self.0.entry(action).or_default();
        while times.front().is_some_and(|first| now.duration_since(*first) >= WINDOW) {
            times.pop_front();
        }
        match times.front() {
            Some(first) if times.len() >= *limit => {
                let wait = (WINDOW - now.duration_since(*first)).as_millis();
                Err(Refusal::throttled(u64::try_from(wait).unwrap_or(1)))
            }
            _ => {
                times.push_back(now);
                Ok(())
            }
        }
    }
}

//! Client tokens: the same token and parameters get the same answer, refusals included.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::Outcome;
use crate::refusal::Refusal;

/// Retention of a token. The VPC documents no figure; ECS implies a day.
const RETENTION: SignedDuration = SignedDuration::from_hours(24);

#[derive(Clone, Debug)]
struct StoredAnswer {
    parameters: BTreeMap<String, String>,
    outcome: Outcome,
    answered_at: Timestamp,
}

/// The answers given, by action and token.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens {
    known: HashMap<(String, String), StoredAnswer>,
    order: VecDeque<(Timestamp, (String, String))>,
}

impl Tokens {
    /// Returns the stored answer for this token, the refusal of its reuse, or `None` for a new
    /// token.
    pub(super) fn recall_answer(
        &mut self,
        action: &str,
        token: &str,
        parameters: &BTreeMap<String, String>,
        now: Timestamp,
    ) -> Option<Outcome> {
        self.forget_expired(now);
        let known = self.known.get(&(action.to_owned(), token.to_owned()))?;
        if known.parameters != *parameters {
            let message =
                "The request uses the same client token as a previous, but non-identical request.";
            return Some(Err(Refusal::bad_request("IdempotentParameterMismatch", message)));
        }
        if now < known.answered_at {
            return Some(Err(Refusal::bad_request(
                "LastTokenProcessing",
                "The last request with this token is still being processed.",
            )));
        }
        Some(known.outcome.clone())
    }

    /// Keeps an answer that was, or is about to be, given.
    pub(super) fn store_answer(
        &mut self,
        action: &str,
        token: &str,
        parameters: BTreeMap<String, String>,
        outcome: Outcome,
        answered_at: Timestamp,
    ) {
        let key = (action.to_owned(), token.to_owned());
        self.order.push_back((answered_at, key.clone()));
        self.known.insert(key, StoredAnswer { parameters, outcome, answered_at });
    }

    fn forget_expired(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.order.front()
            && now.duration_since(*at) > RETENTION
        {
            if let Some((_, key)) = self.order.pop_front() {
                self.known.remove(&key);
            }
        }
    }
}

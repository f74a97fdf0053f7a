//! Things that go wrong on demand.
//!
//! A fault waits for calls of its action and applies its kind to them, `times` times or without
//! end, each time with its probability. Faults *before* a call (error, throttle, reset, delay)
//! leave the cloud untouched until the call is applied; faults *after* it (lost-response, hold)
//! never change the call's effect.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{cloud::Cloud, dice::Dice};

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Refused with `code`, not applied.
    Error,
    /// Refused as flow control, not applied.
    Throttle,
    /// The connection is reset, the call not applied.
    Reset,
    /// Waits `delayMs`, then is applied, even if the caller has left.
    Delay,
    /// Applied; the connection closes without an answer.
    LostResponse,
    /// Applied; the answer is withheld until the fault is released.
    Hold,
    /// Answered from the state there was when the fault was set. For reads.
    StaleDescribe,
}

/// A fault as the admin asks for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultSpec {
    /// Name of an action, or `*` for all.
    pub action: String,
    /// Effect on the calls that are hit.
    pub kind: Kind,
    /// The error code, for `error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The message, for `error`; there is a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The HTTP status, for `error`; there is one for each code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Number of calls to hit; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Probability of hitting a call; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Milliseconds of the delay for `delay`, or of the advised wait for `throttle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

/// A fault in force.
struct Fault {
    wanted: FaultSpec,
    left: Option<u32>,
    hits: u32,
    /// False while calls are held; a receiver is a call that is applied and held.
    released: watch::Sender<bool>,
    past: Option<Arc<Cloud>>,
}

/// Effect of one fault on one call.
pub struct Hit {
    /// As it was asked for.
    pub spec: FaultSpec,
    /// For `hold`: becomes true when the answer may go.
    released: watch::Sender<bool>,
    /// For `stale-describe`: the past.
    pub past: Option<Arc<Cloud>>,
}

impl Hit {
    /// Withholds the answer until the fault is released or removed. Each waiting call counts as
    /// held.
    pub async fn hold_answer(&self) {
        let mut released = self.released.subscribe();
        if released.wait_for(|released| *released).await.is_err() {
            tracing::debug!("a holding fault has gone");
        }
    }
}

/// All faults in force.
pub struct Faults {
    in_force: BTreeMap<u64, Fault>,
    next: u64,
    dice: Dice,
}

impl Faults {
    /// Makes an empty list; `seed` decides which calls are hit.
    pub fn new(seed: u64) -> Self {
        Self { in_force: BTreeMap::new(), next: 1, dice: Dice::new(seed ^ 0xFA17) }
    }

    /// Sets a fault; `past` is what a stale describe shows.
    pub fn set_fault(&mut self, wanted: FaultSpec, past: &Cloud) -> u64 {
        let id = self.next;
        self.next += 1;
        let past = (wanted.kind == Kind::StaleDescribe).then(|| Arc::new(past.clone()));
        let left = wanted.times;
        self.in_force
            .insert(id, Fault { wanted, left, hits: 0, released: watch::Sender::new(false), past });
        id
    }

    /// The faults that hit this call, in the order they were set; each counts the hit. After one
    /// that keeps the call from being applied no other has anything to do, and none is used up.
    pub fn match_call(&mut self, action: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        for fault in self.in_force.values_mut() {
            let named = fault.wanted.action == "*" || fault.wanted.action == action;
            let reads = fault.wanted.kind != Kind::StaleDescribe || is_read(action);
            if !named
                || !reads
                || fault.left == Some(0)
                || !self.dice.draw_chance(fault.wanted.probability.unwrap_or(1.0))
            {
                continue;
            }
            fault.left = fault.left.map(|left| left - 1);
            fault.hits += 1;
            let ends_here = matches!(fault.wanted.kind, Kind::Error | Kind::Throttle | Kind::Reset);
            hits.push(Hit {
                spec: fault.wanted.clone(),
                released: fault.released.clone(),
                past: fault.past.clone(),
            });
            if ends_here {
                break;
            }
        }
        hits
    }

    /// Lets the held answers of a fault go; later calls are not held any more. False if there is no
    /// such fault.
    pub fn release_fault(&mut self, id: u64) -> bool {
        let Some(fault) = self.in_force.get_mut(&id) else { return false };
        fault.left = Some(0);
        fault.released.send_replace(true);
        true
    }

    /// Removes a fault and lets its held answers go.
    pub fn remove_fault(&mut self, id: u64) -> bool {
        let Some(fault) = self.in_force.remove(&id) else { return false };
        fault.released.send_replace(true);
        true
    }

    /// Removes all faults and lets their held answers go.
    pub fn clear_faults(&mut self) {
        let ids: Vec<u64> = self.in_force.keys().copied().collect();
        for id in ids {
            self.remove_fault(id);
        }
    }

    /// All of them with their counts, for the admin.
    pub fn list_faults(&self) -> Value {
        let one = |(id, fault): (&u64, &Fault)| {
            let held =
                if fault.wanted.kind == Kind::Hold { fault.released.receiver_count() } else { 0 };
            let mut shown = json!({"id": id, "hits": fault.hits, "left": fault.left, "held": held});
            if let (Some(shown), Ok(Value::Object(wanted))) =
                (shown.as_object_mut(), serde_json::to_value(&fault.wanted))
            {
                shown.extend(wanted);
            }
            shown
        };
        let held: usize = self
            .in_force
            .values()
            .filter(|it| it.wanted.kind == Kind::Hold)
            .map(|it| it.released.receiver_count())
            .sum();
        json!({"faults": self.in_force.iter().map(one).collect::<Vec<_>>(), "held": held})
    }
}

/// True if the action changes nothing.
fn is_read(action: &str) -> bool {
    ["Describe", "List", "Get"].iter().any(|start| action.starts_with(start))
}

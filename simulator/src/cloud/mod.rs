//! The cloud itself: a state machine with neither clock, nor socket, nor lock.
//!
//! ```text
//! (call, now) ─▶ advance the timeline to now ─▶ rates, policy, token ─▶ the action ─▶ reply and its latency
//! ```
//!
//! Invariant: everything that happens later (an EIP leaving Associating, an entry leaving Pending)
//! is on the timeline and takes effect when a call or an observer moves time past it, so the same
//! seed, calls and times give the same answers.

mod allocate;
mod console;
mod dispatch;
mod eip_calls;
mod eips;
mod forward;
mod forward_calls;
mod gateways;
mod interfaces;
mod network;
mod observe;
mod packages;
mod places;
mod policy;
mod ports;
mod rates;
mod resources;
mod routes;
mod security;
mod snat;
mod state;
mod sts;
mod tags;
mod timeline;
mod tokens;

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use jiff::Timestamp;

pub use self::{
    dispatch::{Call, META_PARAMS, Reply, product_of, with_request_id},
    places::Place,
    ports::{Ports, Protocol},
    resources::{AccessKey, Binding, Eip, EipStatus, EntryStatus, ForwardEntry, Outcome, Target},
    state::{Cloud, Quotas, Settings},
};
use self::{
    rates::Rates,
    resources::{Interfaces, Released},
    state::{is_busy, iso_time},
    timeline::Timeline,
    tokens::Tokens,
};
use crate::{
    dice::{Dice, sortable_ordinal},
    profile::Span,
    topology::Topology,
};

/// First of the simulator's public addresses, in the benchmarking range of RFC 2544, which is not
/// routed on the Internet.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

impl Cloud {
    /// A cloud with its topology built and one access key.
    pub fn new(settings: Settings) -> Self {
        let Settings { topology, pace, quotas, seed, start } = settings;
        let mut cloud = Self {
            topology,
            pace,
            quotas,
            dice: Dice::new(seed),
            born: 0,
            now: start,
            timeline: Timeline::default(),
            tokens: Tokens::default(),
            rates: Rates::default(),
            keys: BTreeMap::new(),
            eips: BTreeMap::new(),
            released: Released::default(),
            gateways: BTreeMap::new(),
            entries: BTreeMap::new(),
            snat: BTreeMap::new(),
            permissions: security::open_to_all(),
            interfaces: Interfaces::default(),
            next_address: PUBLIC.to_bits(),
        };
        cloud.found_account();
        cloud.build_gateways();
        cloud.announce_first_interfaces();
        cloud
    }

    /// Lets everything happen that is due; time never runs backwards.
    pub fn advance_to(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some((due, event)) = self.timeline.pop_due(self.now) {
            self.settle_event(due, &event);
        }
    }

    /// Returns the resources that exist from the start.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// A new id, such as `eip-bp1…`; ids sort in the order of their making.
    fn next_id(&mut self, kind: &str) -> String {
        self.born += 1;
        format!("{kind}-bp1{}{}", sortable_ordinal(self.born), self.dice.draw_word(11))
    }

    fn draw_duration(&mut self, span: Span) -> Duration {
        self.dice.draw_duration(span)
    }

    fn settle_event(&mut self, due: Timestamp, event: &timeline::Event) {
        match event {
            timeline::Event::Eip(id) => self.settle_eip(id, due),
            timeline::Event::Member(id) => self.settle_member(id, due),
            timeline::Event::Entry(id) => self.settle_entry(id, due),
        }
    }
}

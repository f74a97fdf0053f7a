//! State that the listeners share: one cloud, its faults, counts and clock, each behind a lock of
//! its own.

use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    calls::Calls,
    cloud::{Call, Cloud, Place, Reply, Settings},
    dice::Dice,
    faults::Faults,
    signature::Nonces,
};

/// Everything both listeners share.
pub struct Simulator {
    cloud: Mutex<Cloud>,
    /// The clouds of other accounts and regions that were called so far.
    elsewhere: Mutex<BTreeMap<Place, Cloud>>,
    pub(super) faults: Mutex<Faults>,
    pub(super) calls: Mutex<Calls>,
    pub(super) nonces: Mutex<Nonces>,
    request_ids: Mutex<Dice>,
    /// Milliseconds by which the console has moved the cloud's clock ahead of the wall clock.
    ahead_ms: AtomicI64,
}

impl Simulator {
    /// A simulator of this cloud.
    pub fn new(settings: Settings) -> Arc<Self> {
        let seed = settings.seed;
        Arc::new(Self {
            cloud: Mutex::new(Cloud::new(settings)),
            elsewhere: Mutex::default(),
            faults: Mutex::new(Faults::new(seed)),
            calls: Mutex::new(Calls::default()),
            nonces: Mutex::new(Nonces::default()),
            request_ids: Mutex::new(Dice::new(seed.rotate_left(32))),
            ahead_ms: AtomicI64::new(0),
        })
    }

    /// The cloud, with everything that is due by now done.
    pub fn lock_cloud(&self) -> MutexGuard<'_, Cloud> {
        let mut cloud = self.cloud.lock();
        cloud.advance_to(self.cloud_now());
        cloud
    }

    /// Answers a call in the account of its key and the region that it names.
    pub(super) fn handle_call(&self, call: &Call<'_>) -> Reply {
        let mut cloud = self.lock_cloud();
        let now = self.cloud_now();
        let Some(place) = cloud.find_other_place(call) else { return cloud.handle_call(call, now) };
        let mut elsewhere = self.elsewhere.lock();
        let other = elsewhere.entry(place).or_insert_with_key(|place| cloud.found_elsewhere(place));
        other.copy_keys(&cloud);
        other.handle_call(call, now)
    }

    /// The cloud's time: the wall's, and what the console added.
    pub(super) fn cloud_now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_millis(self.ahead_ms.load(Ordering::Relaxed))
    }

    pub(super) fn advance_clock(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(super) fn request_id(&self) -> String {
        self.request_ids.lock().request_id()
    }
}

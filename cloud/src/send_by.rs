//! Latest moment at which a call may be written, by a clock that goes on while the machine sleeps.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Other systems have no clock of this kind; Waygate runs on them for development only.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Latest moment at which a change may be written to its connection. A process that was frozen in
/// between finds it past, and writes nothing: what it was about to change may be another's by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendBy(Duration);

impl SendBy {
    /// This long after now.
    pub fn within(time: Duration) -> Self {
        Self(time_since_boot().saturating_add(time))
    }

    /// True if nothing may be written any more.
    pub(crate) fn has_passed(self) -> bool {
        time_since_boot() > self.0
    }
}

fn time_since_boot() -> Duration {
    let time = clock_gettime(CLOCK);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_passes_once() {
        assert!(!SendBy::within(Duration::from_hours(1)).has_passed());
        let now = SendBy::within(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        assert!(now.has_passed());
    }
}

//! Whether the cloud answers at all: for how long calls have waited while none was answered.

use parking_lot::Mutex;
use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

/// Time in which a call that is dropped could not have been answered yet.
const SHORT: Duration = Duration::from_secs(1);

/// The silence of the cloud as this process sees it: the way to the cloud may be broken for this
/// process alone. It begins with a call, goes on over calls that are given up, and ends with any
/// answer, a refusal included.
#[derive(Debug, Default)]
pub(crate) struct Silence(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Calls that wait for an answer.
    waiting: usize,
    /// Begin of the first call that was sent since the last answer.
    since: Option<Instant>,
}

impl Silence {
    /// Counts a call that is sent now, until the guard is dropped.
    pub(crate) fn begin_call(&self) -> WaitingCall<'_> {
        let mut state = self.0.lock();
        state.waiting += 1;
        state.since.get_or_insert_with(Instant::now);
        WaitingCall { silence: self, has_failed: Cell::new(false) }
    }

    /// True once calls have waited for so long and none was answered.
    pub(crate) fn lasts_for(&self, time: Duration) -> bool {
        self.0.lock().since.is_some_and(|since| since.elapsed() >= time)
    }
}

/// A call that waits for its answer.
pub(crate) struct WaitingCall<'a> {
    silence: &'a Silence,
    has_failed: Cell<bool>,
}

impl WaitingCall<'_> {
    /// Ends the silence; for other calls that wait it begins anew.
    pub(crate) fn note_answer(&self) {
        let mut state = self.silence.0.lock();
        state.since = (state.waiting > 1).then(Instant::now);
    }

    /// Leaves the silence as it is: the call was given up, or could not be sent.
    pub(crate) fn note_failure(&self) {
        self.has_failed.set(true);
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        let mut state = self.silence.0.lock();
        state.waiting -= 1;
        // Of a call that its caller dropped nothing is known: alone, it proves no silence.
        let shortly = |since: Instant| since.elapsed() < SHORT;
        if state.waiting == 0 && !self.has_failed.get() && state.since.is_some_and(shortly) {
            state.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn a_cloud_that_is_not_called_is_not_silent() {
        let silence = Silence::default();
        silence.begin_call().note_answer();
        advance(SHORT * 10).await;
        assert!(!silence.lasts_for(SHORT));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_goes_on_after_a_call_is_given_up_and_ends_with_an_answer() {
        let silence = Silence::default();
        silence.begin_call().note_failure();
        assert!(!silence.lasts_for(SHORT));
        advance(SHORT).await;
        assert!(silence.lasts_for(SHORT));
        let call = silence.begin_call();
        assert!(silence.lasts_for(SHORT), "a new call is no answer");
        call.note_answer();
        assert!(!silence.lasts_for(SHORT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_its_caller_drops_begins_no_silence() {
        let silence = Silence::default();
        drop(silence.begin_call());
        advance(SHORT * 2).await;
        assert!(!silence.lasts_for(SHORT));
        let call = silence.begin_call();
        advance(SHORT * 2).await;
        drop(call);
        assert!(silence.lasts_for(SHORT), "it was not answered for long");
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_several_calls_that_is_answered_ends_the_silence_of_all() {
        let silence = Silence::default();
        let (lost, answered) = (silence.begin_call(), silence.begin_call());
        advance(SHORT / 2).await;
        answered.note_answer();
        drop(answered);
        advance(SHORT / 2).await;
        assert!(!silence.lasts_for(SHORT));
        advance(SHORT / 2).await;
        assert!(silence.lasts_for(SHORT), "the other call waits on");
        drop(lost);
    }
}

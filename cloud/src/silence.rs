//! Whether the cloud answers at all: for how long calls have waited while none was answered.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// Time without any answer, while a call waited for one, after which the cloud counts as silent. Its
/// answers take a tenth of a second; of several calls under way, one is answered within this time.
const SILENCE: Duration = Duration::from_secs(1);

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
        WaitingCall(self)
    }

    /// True once calls have waited for a second and none was answered.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.lock().since.is_some_and(|since| since.elapsed() >= SILENCE)
    }
}

/// A call that waits for its answer. Dropped without one, it leaves the silence as it is.
pub(crate) struct WaitingCall<'a>(&'a Silence);

impl WaitingCall<'_> {
    /// Ends the silence; for other calls that wait it begins anew.
    pub(crate) fn note_answer(&self) {
        let mut state = self.0.0.lock();
        state.since = (state.waiting > 1).then(Instant::now);
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.0.lock().waiting -= 1;
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
        advance(SILENCE * 10).await;
        assert!(!silence.is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_goes_on_after_a_call_is_given_up_and_ends_with_an_answer() {
        let silence = Silence::default();
        drop(silence.begin_call());
        assert!(!silence.is_silent(), "a second has not passed");
        advance(SILENCE).await;
        assert!(silence.is_silent());
        let call = silence.begin_call();
        assert!(silence.is_silent(), "a new call is no answer");
        call.note_answer();
        assert!(!silence.is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_several_calls_that_is_answered_ends_the_silence_of_all() {
        let silence = Silence::default();
        let (lost, answered) = (silence.begin_call(), silence.begin_call());
        advance(SILENCE / 2).await;
        answered.note_answer();
        drop(answered);
        advance(SILENCE / 2).await;
        assert!(!silence.is_silent());
        advance(SILENCE / 2).await;
        assert!(silence.is_silent(), "the other call waits on");
        drop(lost);
    }
}

//! Who we are to the cloud: keys of one source, fetched when needed and kept fresh.
//!
//! Temporary keys are fetched again well ahead of their end, by one task while all others go on
//! with the old ones; while fetching fails, the old ones serve to their last minute.

mod environment;
pub(crate) mod keys;
mod metadata;
mod oidc;

pub use environment::{AccessKey, Environment};

use crate::error::Error;
use crate::settings::Settings;
use environment::Sources;
use jiff::{SignedDuration, Timestamp};
use keys::Keys;
use metadata::InstanceRole;
use oidc::Oidc;
use parking_lot::{Mutex, MutexGuard};
use secrecy::SecretString;
use std::sync::Arc;
use waygate_core::error::chain;

/// Fetched again this long before their end, as the official clients do: a sixth of the shortest
/// life keys come with.
const AHEAD: SignedDuration = SignedDuration::from_mins(15);
/// Not used in the last moments: a call signed now may be looked at a little later, by a clock a
/// little ahead.
const MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// After a failure, its error answers this long, so that a thousand callers do not ask a thousand
/// times.
const FAILURE_HOLDS: SignedDuration = SignedDuration::from_secs(2);

/// Where keys come from. Cheap to clone; all clones share what was fetched.
#[derive(Clone, Debug)]
pub struct Credentials(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    state: Mutex<State>,
    /// Held while fetching.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
enum Source {
    Fixed(Arc<Keys>),
    Oidc(Oidc),
    InstanceRole(InstanceRole),
}

#[derive(Debug, Default)]
struct State {
    keys: Option<Arc<Keys>>,
    failure: Option<(Timestamp, Error)>,
}

impl Credentials {
    /// A pair that does not change.
    pub fn access_key(id: impl Into<String>, secret: SecretString) -> Self {
        Self::fixed(AccessKey { id: id.into(), secret, token: None })
    }

    /// The first source there is: the configured pair, then a pair in the environment, then the
    /// pod's service account (RRSA), then the role of the machine.
    ///
    /// The choice is made once and by configuration alone. A source that fails is not replaced by
    /// the next, which would make calls as somebody else, perhaps in another account, where
    /// everything we own seems to be gone.
    pub fn chain(
        configured: Option<AccessKey>,
        environment: Environment,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let Sources { pair, role, machine } = environment.split()?;
        if let Some(pair) = configured.or(pair) {
            return Ok(Self::fixed(pair));
        }
        if let Some(role) = role {
            return Ok(Self::of(Source::Oidc(Oidc::new(role, settings)?)));
        }
        match machine {
            Some(machine) => Ok(Self::of(Source::InstanceRole(InstanceRole::new(machine)?))),
            None => {
                Err(Error::Setup("no credentials: no key, no service account with a role, and instance metadata is disabled".to_owned()))
            }
        }
    }

    fn fixed(pair: AccessKey) -> Self {
        let AccessKey { id, secret, token } = pair;
        Self::of(Source::Fixed(Arc::new(Keys { id, secret, token, expires: None })))
    }

    fn of(source: Source) -> Self {
        Self(Arc::new(Inner { source, state: Mutex::default(), fetching: Arc::default() }))
    }

    /// Keys that are valid at `now`.
    pub(crate) async fn keys(&self, now: Timestamp) -> Result<Arc<Keys>, Error> {
        if let Source::Fixed(keys) = &self.0.source {
            return Ok(Arc::clone(keys));
        }
        match self.held(now) {
            Held::Fresh(keys) => Ok(keys),
            Held::Ageing(keys) => {
                self.fetch_aside(now);
                Ok(keys)
            }
            Held::Failed(error) => Err(error),
            Held::Nothing => self.fetch_and_wait(now).await,
        }
    }

    /// The cloud no longer takes `keys`: they are not used again.
    pub(crate) fn refused(&self, keys: &Arc<Keys>) {
        self.state().keys.take_if(|held| Arc::ptr_eq(held, keys));
    }

    fn held(&self, now: Timestamp) -> Held {
        let state = self.state();
        let failed = state
            .failure
            .as_ref()
            .filter(|(at, _)| now < at.saturating_add(FAILURE_HOLDS).unwrap_or(*at));
        let left = |keys: &Keys| {
            keys.expires.map_or(SignedDuration::MAX, |expires| expires.duration_since(now))
        };
        match (&state.keys, failed) {
            (Some(keys), _) if left(keys) > AHEAD => Held::Fresh(Arc::clone(keys)),
            (Some(keys), Some(_)) if left(keys) > MARGIN => Held::Fresh(Arc::clone(keys)),
            (Some(keys), None) if left(keys) > MARGIN => Held::Ageing(Arc::clone(keys)),
            (_, Some((_, error))) => Held::Failed(error.clone()),
            (_, None) => Held::Nothing,
        }
    }

    /// Fetches in a task of its own, unless one is at it.
    fn fetch_aside(&self, now: Timestamp) {
        if let Ok(turn) = Arc::clone(&self.0.fetching).try_lock_owned() {
            let this = self.clone();
            tokio::spawn(async move {
                let _turn = turn;
                if let Err(error) = this.fetch(now).await {
                    tracing::warn!(
                        cloud.reason = error.reason(),
                        error = chain(&error),
                        "fresh credentials could not be fetched, the old ones go on"
                    );
                }
            });
        }
    }

    async fn fetch_and_wait(&self, now: Timestamp) -> Result<Arc<Keys>, Error> {
        let _turn = self.0.fetching.lock().await;
        match self.held(now) {
            Held::Fresh(keys) | Held::Ageing(keys) => Ok(keys),
            Held::Failed(error) => Err(error),
            Held::Nothing => self.fetch(now).await,
        }
    }

    async fn fetch(&self, now: Timestamp) -> Result<Arc<Keys>, Error> {
        let fetched = match &self.0.source {
            Source::Fixed(keys) => return Ok(Arc::clone(keys)),
            Source::Oidc(oidc) => oidc.fetch(now).await,
            Source::InstanceRole(role) => role.fetch().await,
        };
        let mut state = self.state();
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *state = State { keys: Some(Arc::clone(&keys)), failure: None };
                Ok(keys)
            }
            Err(error) => {
                state.failure = Some((now, error.clone()));
                Err(error)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

/// What there is at a moment.
enum Held {
    Fresh(Arc<Keys>),
    /// Valid, but time to fetch new ones.
    Ageing(Arc<Keys>),
    /// Tried a moment ago, in vain.
    Failed(Error),
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials() -> Credentials {
        _ = rustls::crypto::ring::default_provider().install_default();
        let settings = Settings {
            region: waygate_core::ids::RegionId::new("cn-hangzhou"),
            vpc: waygate_core::ids::VpcId::new("vpc-1"),
            endpoint: None,
            network: crate::http::endpoints::Network::Vpc,
            call_deadline: std::time::Duration::from_secs(1),
            user_agent_suffix: String::new(),
        };
        Credentials::chain(None, Environment::default(), &settings).unwrap()
    }

    fn hold(
        credentials: &Credentials,
        left: SignedDuration,
        failed_ago: Option<SignedDuration>,
    ) -> Held {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let keys = Keys {
            id: "id".to_owned(),
            secret: "secret".into(),
            token: None,
            expires: Some(now + left),
        };
        let failure = failed_ago.map(|ago| (now - ago, Error::Setup("in vain".to_owned())));
        *credentials.state() = State { keys: Some(Arc::new(keys)), failure };
        credentials.held(now)
    }

    #[test]
    fn keys_are_renewed_ahead_and_used_to_their_last_minute() {
        let (credentials, minutes) = (credentials(), SignedDuration::from_mins);
        assert!(matches!(hold(&credentials, minutes(20), None), Held::Fresh(_)));
        assert!(matches!(hold(&credentials, minutes(10), None), Held::Ageing(_)));
        assert!(matches!(hold(&credentials, SignedDuration::ZERO, None), Held::Nothing));
    }

    #[test]
    fn while_fetching_fails_the_old_keys_serve_and_nobody_asks_again_at_once() {
        let (credentials, minutes, just_now) =
            (credentials(), SignedDuration::from_mins, Some(SignedDuration::from_secs(1)));
        assert!(matches!(hold(&credentials, minutes(10), just_now), Held::Fresh(_)));
        assert!(matches!(hold(&credentials, minutes(10), Some(FAILURE_HOLDS)), Held::Ageing(_)));
        assert!(matches!(hold(&credentials, minutes(-1), just_now), Held::Failed(_)));
        assert!(matches!(hold(&credentials, minutes(-1), Some(FAILURE_HOLDS)), Held::Nothing));
    }

    #[test]
    fn refused_keys_are_dropped_but_not_their_successors() {
        let credentials = credentials();
        let Held::Fresh(old) = hold(&credentials, SignedDuration::from_mins(20), None) else {
            panic!("fresh")
        };
        let Held::Fresh(new) = hold(&credentials, SignedDuration::from_mins(40), None) else {
            panic!("fresh")
        };
        credentials.refused(&old);
        assert!(credentials.state().keys.is_some());
        credentials.refused(&new);
        assert!(credentials.state().keys.is_none());
    }

    #[test]
    fn a_secret_shows_in_no_debug_output() {
        let credentials = Credentials::access_key("id", "hunter2".into());
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}

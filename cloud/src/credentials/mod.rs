//! Credentials: the keys of one source, fetched when needed and refreshed ahead of expiry.
//!
//! A single task fetches new temporary keys well before the old ones expire, while calls go on with
//! the old ones. As long as fetching fails, the old keys serve until half a minute before expiry.

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

/// Keys are refreshed this long before they expire, as the official clients do.
const AHEAD: SignedDuration = SignedDuration::from_mins(15);
/// Keys are not used this close to expiry: the cloud checks a signature a little later, and by a
/// clock that may be ahead.
const MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// The error of a failed fetch answers all callers for this long, so that a thousand of them do not
/// cause a thousand fetches.
const FAILURE_HOLDS: SignedDuration = SignedDuration::from_secs(2);

/// A source of keys. Cheap to clone; all clones share the fetched keys.
#[derive(Clone, Debug)]
pub struct Credentials(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Source,
    state: Mutex<State>,
    /// Locked during a fetch, so that one runs at a time.
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
    /// Credentials of a permanent access key.
    pub fn access_key(id: impl Into<String>, secret: SecretString) -> Self {
        Self::fixed(AccessKey { id: id.into(), secret, token: None })
    }

    /// The first configured source of: `configured`, an access key in the environment, the pod's
    /// service account (RRSA), the role of the machine.
    ///
    /// Configuration alone decides, once. A source that fails is not replaced by the next, whose
    /// identity may be in another account, where every resource of Waygate would seem absent.
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
            None => Err(Error::Setup(
                "no credentials: set an access key or a role (RRSA), or enable instance metadata"
                    .to_owned(),
            )),
        }
    }

    fn fixed(pair: AccessKey) -> Self {
        let AccessKey { id, secret, token } = pair;
        Self::of(Source::Fixed(Arc::new(Keys { id, secret, token, expires: None })))
    }

    fn of(source: Source) -> Self {
        Self(Arc::new(Inner { source, state: Mutex::default(), fetching: Arc::default() }))
    }

    /// Keys that are valid at `now`; waits for a fetch only where no valid keys are cached.
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

    /// Drops `keys`, which the cloud refused as expired; newer keys stay.
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

    /// Fetches in a background task, unless a fetch is under way.
    fn fetch_aside(&self, now: Timestamp) {
        if let Ok(turn) = Arc::clone(&self.0.fetching).try_lock_owned() {
            let this = self.clone();
            tokio::spawn(async move {
                let _turn = turn;
                if let Err(error) = this.fetch(now).await {
                    tracing::warn!(
                        cloud.reason = error.reason(),
                        error = chain(&error),
                        "credentials refresh failed; the current keys stay in use"
                    );
                }
            });
        }
    }

    async fn fetch_and_wait(&self, now: Timestamp) -> Result<Arc<Keys>, Error> {
        let _turn = self.0.fetching.lock().await;
        // Another caller may have fetched while this one waited for the lock.
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

/// The cached keys or error at a given time.
enum Held {
    Fresh(Arc<Keys>),
    /// Valid, but a refresh is due.
    Ageing(Arc<Keys>),
    /// The last fetch failed within the last two seconds, and no keys are valid.
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

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
use waygate_core::error::error_chain;

/// Keys are refreshed this long before they expire, as the official clients do.
const REFRESH_AHEAD: SignedDuration = SignedDuration::from_mins(15);
/// Keys are not used this close to expiry: the cloud checks a signature a little later, and by a
/// clock that may be ahead.
const EXPIRY_MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// The error of a failed fetch answers all callers for this long, so that a thousand of them do not
/// cause a thousand fetches.
const FAILURE_CACHED_FOR: SignedDuration = SignedDuration::from_secs(2);

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
        Self::from_access_key(AccessKey { id: id.into(), secret, token: None })
    }

    /// The first configured source of: `configured`, an access key in the environment, the pod's
    /// service account (RRSA), the role of the machine.
    ///
    /// Configuration alone decides, once. A source that fails is not replaced by the next, whose
    /// identity may be in another account, where every resource of Waygate would seem absent.
    pub fn from_first_source(
        configured: Option<AccessKey>,
        environment: Environment,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let Sources { access_key: pair, role, machine } = environment.into_sources()?;
        if let Some(pair) = configured.or(pair) {
            return Ok(Self::from_access_key(pair));
        }
        if let Some(role) = role {
            return Ok(Self::from_source(Source::Oidc(Oidc::new(role, settings)?)));
        }
        match machine {
            Some(machine) => {
                Ok(Self::from_source(Source::InstanceRole(InstanceRole::new(machine)?)))
            }
            None => Err(Error::Setup(
                "no credentials: set an access key or a role (RRSA), or enable instance metadata"
                    .to_owned(),
            )),
        }
    }

    fn from_access_key(pair: AccessKey) -> Self {
        let AccessKey { id, secret, token } = pair;
        Self::from_source(Source::Fixed(Arc::new(Keys { id, secret, token, expires: None })))
    }

    fn from_source(source: Source) -> Self {
        Self(Arc::new(Inner { source, state: Mutex::default(), fetching: Arc::default() }))
    }

    /// Keys that are valid at `now`; waits for a fetch only where no valid keys are cached.
    pub(crate) async fn valid_keys(&self, now: Timestamp) -> Result<Arc<Keys>, Error> {
        if let Source::Fixed(keys) = &self.0.source {
            return Ok(Arc::clone(keys));
        }
        match self.cached_keys(now) {
            CachedKeys::Fresh(keys) => Ok(keys),
            CachedKeys::RefreshDue(keys) => {
                self.fetch_in_background(now);
                Ok(keys)
            }
            CachedKeys::Failed(error) => Err(error),
            CachedKeys::Missing => self.fetch_and_wait(now).await,
        }
    }

    /// Drops `keys`, which the cloud refused as expired; newer keys stay.
    pub(crate) fn drop_refused(&self, keys: &Arc<Keys>) {
        self.lock_state().keys.take_if(|held| Arc::ptr_eq(held, keys));
    }

    fn cached_keys(&self, now: Timestamp) -> CachedKeys {
        let state = self.lock_state();
        let failed = state
            .failure
            .as_ref()
            .filter(|(at, _)| now < at.saturating_add(FAILURE_CACHED_FOR).unwrap_or(*at));
        let left = |keys: &Keys| {
            keys.expires.map_or(SignedDuration::MAX, |expires| expires.duration_since(now))
        };
        match (&state.keys, failed) {
            (Some(keys), _) if left(keys) > REFRESH_AHEAD => CachedKeys::Fresh(Arc::clone(keys)),
            (Some(keys), Some(_)) if left(keys) > EXPIRY_MARGIN => {
                CachedKeys::Fresh(Arc::clone(keys))
            }
            (Some(keys), None) if left(keys) > EXPIRY_MARGIN => {
                CachedKeys::RefreshDue(Arc::clone(keys))
            }
            (_, Some((_, error))) => CachedKeys::Failed(error.clone()),
            (_, None) => CachedKeys::Missing,
        }
    }

    /// Fetches in a background task, unless a fetch is under way.
    fn fetch_in_background(&self, now: Timestamp) {
        if let Ok(guard) = Arc::clone(&self.0.fetching).try_lock_owned() {
            let this = self.clone();
            tokio::spawn(async move {
                let _fetch_guard = guard;
                if let Err(error) = this.fetch_and_cache(now).await {
                    tracing::warn!(
                        cloud.reason = error.reason(),
                        error = error_chain(&error),
                        "credentials refresh failed; the current keys stay in use"
                    );
                }
            });
        }
    }

    async fn fetch_and_wait(&self, now: Timestamp) -> Result<Arc<Keys>, Error> {
        let _fetch_guard = self.0.fetching.lock().await;
        // Another caller may have fetched while this one waited for the lock.
        match self.cached_keys(now) {
            CachedKeys::Fresh(keys) | CachedKeys::RefreshDue(keys) => Ok(keys),
            CachedKeys::Failed(error) => Err(error),
            CachedKeys::Missing => self.fetch_and_cache(now).await,
        }
    }

    async fn fetch_and_cache(&self, now: Timestamp) -> Result<Arc<Keys>, Error> {
        let fetched = match &self.0.source {
            Source::Fixed(keys) => return Ok(Arc::clone(keys)),
            Source::Oidc(oidc) => oidc.assume_role(now).await,
            Source::InstanceRole(role) => role.fetch_role_keys().await,
        };
        let mut state = self.lock_state();
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

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock()
    }
}

/// The cached keys or error at a given time.
enum CachedKeys {
    Fresh(Arc<Keys>),
    /// Valid, but a refresh is due.
    RefreshDue(Arc<Keys>),
    /// The last fetch failed within the last two seconds, and no keys are valid.
    Failed(Error),
    Missing,
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
        Credentials::from_first_source(None, Environment::default(), &settings).unwrap()
    }

    fn hold(
        credentials: &Credentials,
        left: SignedDuration,
        failed_ago: Option<SignedDuration>,
    ) -> CachedKeys {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let keys = Keys {
            id: "id".to_owned(),
            secret: "secret".into(),
            token: None,
            expires: Some(now + left),
        };
        let failure = failed_ago.map(|ago| (now - ago, Error::Setup("in vain".to_owned())));
        *credentials.lock_state() = State { keys: Some(Arc::new(keys)), failure };
        credentials.cached_keys(now)
    }

    #[test]
    fn keys_are_renewed_ahead_and_used_to_their_last_minute() {
        let (credentials, minutes) = (credentials(), SignedDuration::from_mins);
        assert!(matches!(hold(&credentials, minutes(20), None), CachedKeys::Fresh(_)));
        assert!(matches!(hold(&credentials, minutes(10), None), CachedKeys::RefreshDue(_)));
        assert!(matches!(hold(&credentials, SignedDuration::ZERO, None), CachedKeys::Missing));
    }

    #[test]
    fn while_fetching_fails_the_old_keys_serve_and_the_next_fetch_waits() {
        let (credentials, minutes, just_now) =
            (credentials(), SignedDuration::from_mins, Some(SignedDuration::from_secs(1)));
        assert!(matches!(hold(&credentials, minutes(10), just_now), CachedKeys::Fresh(_)));
        assert!(matches!(
            hold(&credentials, minutes(10), Some(FAILURE_CACHED_FOR)),
            CachedKeys::RefreshDue(_)
        ));
        assert!(matches!(hold(&credentials, minutes(-1), just_now), CachedKeys::Failed(_)));
        assert!(matches!(
            hold(&credentials, minutes(-1), Some(FAILURE_CACHED_FOR)),
            CachedKeys::Missing
        ));
    }

    #[test]
    fn refused_keys_are_dropped_but_not_their_successors() {
        let credentials = credentials();
        let CachedKeys::Fresh(old) = hold(&credentials, SignedDuration::from_mins(20), None) else {
            panic!("fresh")
        };
        let CachedKeys::Fresh(new) = hold(&credentials, SignedDuration::from_mins(40), None) else {
            panic!("fresh")
        };
        credentials.drop_refused(&old);
        assert!(credentials.lock_state().keys.is_some());
        credentials.drop_refused(&new);
        assert!(credentials.lock_state().keys.is_none());
    }

    #[test]
    fn a_secret_shows_in_no_debug_output() {
        let credentials = Credentials::access_key("id", "hunter2".into());
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}

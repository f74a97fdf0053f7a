//! How certificates come to be: a small authority of our own for the admission server, and when
//! each certificate is renewed.
//!
//! Pure: the time is an argument, and nothing is read from or written to anywhere. Whoever keeps
//! the PEM texts keeps them as Secrets.
//!
//! ```text
//! Authority (10 years) ─ issue(names) ─▶ Pair (90 days) ─ needs_renewal, in its last third ─▶ issue again
//! ```

mod error;
mod lifetime;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use lifetime::needs_renewal;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use secrecy::{ExposeSecret, SecretString};
use time::OffsetDateTime;

/// How long an authority lives: as long as a cluster, since every client's trust hangs on it. A
/// leaked key ends it sooner, by hand.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long a serving certificate lives: renewed in its last third, there remain 30 days to notice
/// that renewal fails.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Clocks of the machines in a cluster may differ by so much.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);

/// Issues serving certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    not_after: OffsetDateTime,
}

/// A serving certificate and its key.
#[derive(Debug)]
pub struct Pair {
    /// The certificate.
    pub cert_pem: String,
    /// Its private key, PKCS#8.
    pub key_pem: SecretString,
}

impl Authority {
    /// A new authority with a key of its own.
    pub fn new(now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Waygate authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = date(now - BACKDATED)?;
        params.not_after = date(now + AUTHORITY_LIFE)?;
        let not_after = params.not_after;
        let certificate = params.self_signed(&key).map_err(Error::Make)?;
        Ok(Self { ca_pem: certificate.pem(), issuer: Issuer::new(params, key), not_after })
    }

    /// An authority made earlier.
    pub fn load(ca_pem: &str, key_pem: &SecretString) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key_pem.expose_secret()).map_err(Error::Read)?;
        let read = lifetime::read(ca_pem)?;
        if read.public_key != key.public_key_raw() {
            return Err(Error::Mismatch);
        }
        let issuer = Issuer::from_ca_cert_pem(ca_pem, key).map_err(Error::Read)?;
        Ok(Self { issuer, ca_pem: ca_pem.to_owned(), not_after: date(read.not_after)? })
    }

    /// Its certificate: what clients trust, the `caBundle` of a registration.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Its private key, PKCS#8.
    pub fn key_pem(&self) -> SecretString {
        self.issuer.key().serialize_pem().into()
    }

    /// A certificate, with a new key, for a server that is reached under these DNS names and IP
    /// addresses. It never outlives the authority.
    pub fn issue(&self, names: &[String], now: Timestamp) -> Result<Pair, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Make)?;
        let mut params = CertificateParams::new(names).map_err(Error::Make)?;
        params.distinguished_name = named("waygate");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = date(now - BACKDATED)?;
        params.not_after = date(now + LEAF_LIFE)?.min(self.not_after);
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::Make)?;
        Ok(Pair { cert_pem: certificate.pem(), key_pem: key.serialize_pem().into() })
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn date(at: Timestamp) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| Error::Time)
}

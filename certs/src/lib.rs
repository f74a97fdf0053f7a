//! Certificates of the admission server: a small certificate authority, and the renewal rule.
//!
//! Pure: the time is an argument, and nothing is read or written. Callers store the PEM texts as
//! Secrets.
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

/// Lifetime of an authority: as long as a cluster, since every client's trust depends on it. After
/// a key leak, an operator replaces it earlier.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Lifetime of a serving certificate: renewal in the last third leaves 30 days to notice that
/// renewal fails.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Certificates start this much in the past, as the clocks of a cluster's machines may differ.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);

/// A certificate authority that issues serving certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    not_after: OffsetDateTime,
}

/// A serving certificate and its key.
#[derive(Debug)]
pub struct Pair {
    /// Certificate as PEM text, without the authority's.
    pub cert_pem: String,
    /// Private key as PEM text, PKCS#8.
    pub key_pem: SecretString,
}

impl Authority {
    /// Makes an authority with a new key, valid from now on.
    pub fn new(now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Waygate authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.not_before = to_offset_date_time(now - BACKDATED)?;
        params.not_after = to_offset_date_time(now + AUTHORITY_LIFE)?;
        let not_after = params.not_after;
        let certificate = params.self_signed(&key).map_err(Error::Make)?;
        Ok(Self { ca_pem: certificate.pem(), issuer: Issuer::new(params, key), not_after })
    }

    /// Loads an authority from its PEM texts. Errors if the key is not the certificate's.
    pub fn from_pem(ca_pem: &str, key_pem: &SecretString) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key_pem.expose_secret()).map_err(Error::Read)?;
        let read = lifetime::parse_certificate(ca_pem)?;
        // Another key would issue certificates that no client trusts.
        if read.public_key != key.public_key_raw() {
            return Err(Error::Mismatch);
        }
        let issuer = Issuer::from_ca_cert_pem(ca_pem, key).map_err(Error::Read)?;
        Ok(Self {
            issuer,
            ca_pem: ca_pem.to_owned(),
            not_after: to_offset_date_time(read.not_after)?,
        })
    }

    /// The authority's certificate as PEM text: clients trust it, and registrations contain it as
    /// `caBundle`.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Private key as PEM text, PKCS#8.
    pub fn key_pem(&self) -> SecretString {
        self.issuer.key().serialize_pem().into()
    }

    /// Issues a certificate with a new key for a server that is reached under these DNS names and
    /// IP addresses. Its validity ends with the authority's at the latest.
    pub fn issue_certificate(&self, names: &[String], now: Timestamp) -> Result<Pair, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Make)?;
        let mut params = CertificateParams::new(names).map_err(Error::Make)?;
        params.distinguished_name = common_name("waygate");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = to_offset_date_time(now - BACKDATED)?;
        params.not_after = to_offset_date_time(now + LEAF_LIFE)?.min(self.not_after);
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::Make)?;
        Ok(Pair { cert_pem: certificate.pem(), key_pem: key.serialize_pem().into() })
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn to_offset_date_time(at: Timestamp) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| Error::Time)
}

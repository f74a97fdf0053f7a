//! Errors of making and reading certificates.

/// Reason that a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate or key could not be made.
    #[error("cannot make the certificate or its key")]
    Make(#[source] rcgen::Error),
    /// The authority's certificate or key cannot be read.
    #[error("cannot read the authority's certificate and key")]
    Read(#[source] rcgen::Error),
    /// A certificate's PEM text cannot be read.
    #[error("cannot read the certificate: not PEM, or not X.509")]
    Certificate,
    /// The authority's key does not belong to its certificate.
    #[error("the authority's key does not belong to its certificate")]
    Mismatch,
    /// A date is outside the range of certificates.
    #[error("date out of the range of certificates")]
    Time,
}

//! What can go wrong with a certificate.

/// Why a certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate or key could not be made.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// The authority's certificate or key cannot be read.
    #[error("cannot read the authority's certificate and key")]
    Read(#[source] rcgen::Error),
    /// A certificate's PEM text cannot be read.
    #[error("cannot read a certificate")]
    Certificate,
    /// The authority's key is not the one its certificate is for.
    #[error("the authority's key does not belong to its certificate")]
    Mismatch,
    /// The time lies outside what certificates can say.
    #[error("time out of range")]
    Time,
}

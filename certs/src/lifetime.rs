//! Validity of a certificate, and the time of its renewal.

use crate::error::Error;
use jiff::Timestamp;
use x509_parser::pem::parse_x509_pem;

/// The parts of a certificate that decide about its renewal and its key.
pub(crate) struct ParsedCertificate {
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    pub(crate) public_key: Vec<u8>,
}

/// True if a certificate is due for renewal: in the last third of its life, or unreadable.
pub fn needs_renewal(cert_pem: &str, now: Timestamp) -> bool {
    parse_certificate(cert_pem).map_or(true, |certificate| {
        let life = certificate.not_after.duration_since(certificate.not_before);
        certificate.not_after.duration_since(now) <= life / 3
    })
}

pub(crate) fn parse_certificate(cert_pem: &str) -> Result<ParsedCertificate, Error> {
    let (_, pem) = parse_x509_pem(cert_pem.as_bytes()).map_err(|_| Error::Certificate)?;
    let certificate = pem.parse_x509().map_err(|_| Error::Certificate)?;
    let validity = certificate.validity();
    let at = |second| Timestamp::from_second(second).map_err(|_| Error::Time);
    Ok(ParsedCertificate {
        not_before: at(validity.not_before.timestamp())?,
        not_after: at(validity.not_after.timestamp())?,
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
    })
}

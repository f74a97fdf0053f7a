use super::*;
use jiff::ToSpan;
use x509_parser::pem::parse_x509_pem;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn days(days: i64) -> Timestamp {
    NOW + (days * 24).hours()
}

#[test]
fn a_leaf_is_renewed_in_the_last_third_of_its_life() {
    let pair = Authority::new(NOW).unwrap().issue_certificate(&["a.example".into()], NOW).unwrap();
    assert!(!needs_renewal(&pair.cert_pem, NOW));
    assert!(!needs_renewal(&pair.cert_pem, days(59)));
    assert!(needs_renewal(&pair.cert_pem, days(61)));
    assert!(needs_renewal(&pair.cert_pem, days(1000)));
}

#[test]
fn what_cannot_be_read_is_renewed() {
    assert!(needs_renewal("", NOW));
    assert!(needs_renewal("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", NOW));
}

#[test]
fn a_loaded_authority_issues_what_its_certificate_signed() {
    let first = Authority::new(NOW).unwrap();
    let again = Authority::from_pem(first.ca_pem(), &first.key_pem()).unwrap();
    let leaf = again
        .issue_certificate(&["waygate-webhook.waygate-system.svc".into(), "127.0.0.1".into()], NOW)
        .unwrap();
    let (_, ca) = parse_x509_pem(first.ca_pem().as_bytes()).unwrap();
    let (_, leaf) = parse_x509_pem(leaf.cert_pem.as_bytes()).unwrap();
    let (ca, leaf) = (ca.parse_x509().unwrap(), leaf.parse_x509().unwrap());
    leaf.verify_signature(Some(ca.public_key())).unwrap();
    assert!(ca.is_ca() && !leaf.is_ca());
    assert!(leaf.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert_eq!(leaf.validity().not_before.timestamp(), NOW.as_second() - 300);
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let authority = Authority::new(NOW).unwrap();
    let late = authority.issue_certificate(&["a.example".into()], days(3640)).unwrap();
    assert_eq!(
        lifetime::parse_certificate(&late.cert_pem).unwrap().not_after,
        lifetime::parse_certificate(authority.ca_pem()).unwrap().not_after
    );
}

#[test]
fn a_key_of_another_authority_is_refused() {
    let (one, other) = (Authority::new(NOW).unwrap(), Authority::new(NOW).unwrap());
    assert!(matches!(Authority::from_pem(one.ca_pem(), &other.key_pem()), Err(Error::Mismatch)));
    assert!(matches!(Authority::from_pem("rubbish", &one.key_pem()), Err(Error::Certificate)));
    assert!(matches!(Authority::from_pem(one.ca_pem(), &"rubbish".into()), Err(Error::Read(_))));
}

#[test]
fn no_key_is_shown_by_debug() {
    let authority = Authority::new(NOW).unwrap();
    let pair = authority.issue_certificate(&["a.example".into()], NOW).unwrap();
    let shown = format!("{authority:?} {pair:?}");
    let key: String =
        pair.key_pem.expose_secret().lines().nth(1).unwrap().chars().take(20).collect();
    assert!(!shown.contains(&key) && !shown.contains("PRIVATE"));
}

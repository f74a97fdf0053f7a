//! Fuzzes the client with arbitrary answers of the cloud.
//!
//! Input: a line `ACTION STATUS HEADER`, where `HEADER` is the value of the headers that give a
//! waiting time; the rest is the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use waygate_cloud::fuzzing::{read_as_everything, read_as_refusal};
use waygate_cloud::{Class, Error};

/// Actions for which some codes have different meanings.
const ACTIONS: [&str; 3] = ["CreateForwardEntry", "UnassociateEipAddress", "DescribeEipAddresses"];

/// In characters: action, code, message and request ID are cut to 100, 100, 300 and 100; the rest
/// is fixed text.
const LONGEST_TEXT: usize = 800;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (line, body) = input.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    read_as_everything(body);

    let mut words = line.splitn(3, |byte| *byte == b' ');
    let mut word = || words.next().unwrap_or_default();
    let (action, status, wait) = (word(), word(), word());
    let action = ACTIONS.into_iter().find(|known| known.as_bytes() == action).unwrap_or(ACTIONS[0]);
    let status = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    if let Some(error) = read_as_refusal(action, status, wait, body) {
        check(&error, status);
    }
});

fn check(error: &Error, status: u16) {
    let text = error.to_string();
    assert!(
        text.chars().count() < LONGEST_TEXT && !text.chars().any(char::is_control),
        "{text:?} cannot be shown in a condition"
    );
    assert!(
        !error.reason().is_empty() && error.reason().chars().all(char::is_alphanumeric),
        "{:?}",
        error.reason()
    );
    assert!(
        !error.is_definite() || (status < 500 && error.code().is_some()),
        "{text}: a failure that the cloud did not answer is not definite"
    );
    assert!(
        error.class() != Class::NotFound || error.code().is_some(),
        "{text}: only an error code of the cloud proves absence"
    );
    assert!(error.retry_after().is_none_or(|wait| !wait.is_zero()));
}

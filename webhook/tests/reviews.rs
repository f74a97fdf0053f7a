//! Sends the reviews of `tests/reviews/` to the real router. Each file holds the path, the review
//! and the expected answer, with its patch decoded; the file's name says what the case shows.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod server;

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::{CONFIG, Server};
use std::path::PathBuf;

/// All case files, by name.
fn cases() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reviews");
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    };
    let mut cases: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap().path())).collect();
    cases.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert!(cases.len() > 30);
    cases
}

fn case(name: &str) -> Value {
    cases()
        .into_iter()
        .find(|(present, _)| present == name)
        .unwrap_or_else(|| panic!("no file {name}"))
        .1
}

#[tokio::test]
async fn every_review_gets_the_answer_expected() {
    let server = Server::start(CONFIG);
    for (name, case) in cases() {
        let answer = server.review(case["path"].as_str().unwrap(), &case["review"]).await;
        assert_eq!(answer, case["answer"], "{name}");
    }
}

#[tokio::test]
async fn a_patched_pod_needs_no_second_patch_and_passes_validation() {
    let server = Server::start(CONFIG);
    for (name, case) in cases() {
        if case["path"] != "/mutate" {
            continue;
        }
        let mut review = case["review"].clone();
        let patch: json_patch::Patch =
            serde_json::from_value(server.review("/mutate", &review).await["patch"].clone())
                .unwrap();
        json_patch::patch(&mut review["request"]["object"], &patch).unwrap();
        assert_eq!(server.review("/mutate", &review).await["patch"], json!([]), "{name}");
        review["request"]["dryRun"] = json!(true);
        let warnings = server.review("/validate", &review).await["warnings"].to_string();
        assert!(!warnings.contains("lacks the readiness gate"), "{name}: {warnings}");
    }
}

#[tokio::test]
async fn in_warn_mode_nothing_is_refused() {
    let server = Server::start(&format!("{CONFIG}admission: {{mode: warn}}\n"));
    for (name, case) in cases() {
        let answer = server.review(case["path"].as_str().unwrap(), &case["review"]).await;
        assert_eq!(answer["allowed"], json!(true), "{name}");
        if case["answer"]["allowed"] == json!(false) {
            assert_ne!(answer["warnings"], json!([]), "{name}");
        }
    }
}

#[tokio::test]
async fn an_address_that_is_switched_off_is_admitted_with_a_warning() {
    let server = Server::start(&CONFIG.replace("[natgw, eip]", "[natgw]"));
    let pod = &case("mutate-a-pod-with-an-eip-gets-label-and-gate")["review"];
    assert!(!server.review("/mutate", pod).await["patch"].to_string().contains("readinessGates"));
    let answer = server.review("/validate", pod).await;
    assert_eq!(answer["allowed"], json!(true));
    assert!(
        answer["warnings"][0].as_str().unwrap().contains("eip is not among enableControllers"),
        "{answer}"
    );
    server.expect_metric("announcements_total", 0);
}

#[tokio::test]
async fn a_pod_is_admitted_in_time_while_postgres_is_away() {
    let server = Server::start(CONFIG);
    let mut review = case("validate-a-right-pod-is-allowed")["review"].clone();
    assert_eq!(server.review("/validate", &review).await["allowed"], json!(true));
    server.expect_metric("announcements_total", 0);
    review["request"]["dryRun"] = json!(false);
    let start = std::time::Instant::now();
    assert_eq!(server.review("/validate", &review).await["allowed"], json!(true));
    assert!(start.elapsed() < std::time::Duration::from_secs(1));
    server.expect_metric("announcements_total", 1);
}

/// Postgres accepts connections and never answers, neither with an error nor with an end. The test
/// sends twice as many reviews as there may be announcements in progress.
#[tokio::test]
async fn a_postgres_that_hangs_does_not_block_scheduling() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::start_with_store(
        CONFIG,
        &format!("postgres://waygate@{}/nothing", silent.local_addr().unwrap()),
    );
    let mut review = case("validate-a-right-pod-is-allowed")["review"].clone();
    review["request"]["dryRun"] = json!(false);
    let start = std::time::Instant::now();
    let answers =
        futures::future::join_all((0..512).map(|_| server.review("/validate", &review))).await;
    assert!(answers.iter().all(|answer| answer["allowed"] == json!(true)));
    let took = start.elapsed();
    assert!(
        took < std::time::Duration::from_secs(2),
        "the API server waits 3 s; this took {took:?}"
    );
    server.expect_metric("announcements_total", 512);
}

#[tokio::test]
async fn nothing_is_announced_for_a_refused_or_updated_pod() {
    let server = Server::start(CONFIG);
    for (name, case) in cases() {
        if case["path"] == "/validate"
            && (case["answer"]["allowed"] == json!(false)
                || case["review"]["request"]["operation"] == "UPDATE")
        {
            let mut review = case["review"].clone();
            review["request"]["dryRun"] = json!(false);
            server.review("/validate", &review).await;
            assert_eq!(server.metric("announcements_total"), 0, "{name}");
        }
    }
}

/// Fields of a review whose texts the API server has not checked when it asks, or never checks.
const NAMES: [(&str, &str); 5] = [
    ("/request/namespace", "request.namespace"),
    ("/request/object/metadata/name", "metadata.name"),
    ("/request/object/metadata/uid", "metadata.uid"),
    ("/request/object/metadata/ownerReferences/0/kind", "metadata.ownerReferences[].kind"),
    ("/request/object/metadata/ownerReferences/0/name", "metadata.ownerReferences[].name"),
];

/// Postgres would refuse such a row each time. The API server allows any name for an owner.
#[tokio::test]
async fn a_name_that_cannot_be_stored_is_refused_with_its_field_and_not_announced() {
    let server = Server::start(CONFIG);
    let mut usual = case("validate-a-right-pod-is-allowed")["review"].clone();
    usual["request"]["dryRun"] = json!(false);
    let long = "a".repeat(254);
    for (pointer, field) in NAMES {
        for (value, says) in [
            ("a\0b", r"a\0b"),
            ("a\nb", "U+000A"),
            ("a\u{7f}b", "U+007F"),
            ("a\u{202e}b", "U+202E"),
            (long.as_str(), "is longer than"),
        ] {
            let mut review = usual.clone();
            *review.pointer_mut(pointer).unwrap() = json!(value);
            let answer = server.review("/validate", &review).await;
            assert_eq!(answer["allowed"], json!(false), "{field} {value:?}");
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains(field) && message.contains(says), "{message}");
            assert!(!message.contains(char::is_control) && message.len() < 400, "{message}");
            assert_eq!(server.metric("announcements_total"), 0, "{field}: {value:?}");
        }
    }
    server.review("/validate", &usual).await;
    server.expect_metric("announcements_total", 1);
}

#[tokio::test]
async fn all_names_that_cannot_be_stored_are_refused_in_one_message() {
    let server = Server::start(CONFIG);
    let mut review = case("validate-a-right-pod-is-allowed")["review"].clone();
    for (pointer, _) in NAMES {
        *review.pointer_mut(pointer).unwrap() = json!("a\0b");
    }
    let annotations = &mut review["request"]["object"]["metadata"]["annotations"];
    annotations["k8s.aliyun.com/eip-name"] = json!("a\0b");
    let message = server.review("/validate", &review).await["message"].to_string();
    for field in NAMES.map(|(_, field)| field).into_iter().chain(["k8s.aliyun.com/eip-name"]) {
        assert!(message.contains(field), "{field} is missing in {message}");
    }
}

/// `generateName` gets its name after the first admission; a dry run may have neither name nor UID.
#[tokio::test]
async fn a_pod_without_a_name_is_allowed_and_not_announced() {
    let server = Server::start(CONFIG);
    for (pointer, name) in [("name", json!("")), ("name", json!(null)), ("uid", json!(""))] {
        let mut review = case("validate-a-right-pod-is-allowed")["review"].clone();
        review["request"]["dryRun"] = json!(false);
        review["request"]["object"]["metadata"][pointer] = name;
        assert_eq!(server.review("/validate", &review).await["allowed"], json!(true));
        server.expect_metric("announcements_total", 0);
    }
}

/// Not JSON's texts, and texts of no right type: the answer names the field and shows no control
/// character.
#[tokio::test]
async fn what_is_no_text_is_refused_with_its_field() {
    let server = Server::start(CONFIG);
    let usual = case("validate-a-right-pod-is-allowed")["review"].to_string();
    let with = |from: &str, to: &[u8]| {
        let at = usual.find(from).unwrap();
        [usual.as_bytes()[..at].to_vec(), to.to_vec(), usual.as_bytes()[at + from.len()..].to_vec()]
            .concat()
    };
    let bandwidth = r#""k8s.aliyun.com/eip-bandwidth":"5""#;
    let in_annotations = "annotations.k8s.aliyun.com/eip-bandwidth";
    for (body, says) in [
        (with(bandwidth, br#""k8s.aliyun.com/eip-bandwidth":5"#), in_annotations),
        (with(bandwidth, br#""k8s.aliyun.com/eip-bandwidth":true"#), in_annotations),
        (with(bandwidth, br#""k8s.aliyun.com/eip-bandwidth":["5"]"#), in_annotations),
        (with(bandwidth, br#""k8s.aliyun.com/eip-bandwidth":"\ud800""#), in_annotations),
        (with(bandwidth, b"\"k8s.aliyun.com/eip-bandwidth\":\"\xff\""), in_annotations),
        (with(r#""operation":"CREATE""#, br#""operation":"a\u0000\u001bb""#), r"a\0\u{1b}b"),
        (with("705ab4f5-6393-11e8-b7cc-42010a800002", br"a\u0000b"), "request.uid"),
    ] {
        let (status, text) = server.post("/validate", body.into()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert!(text.contains(says), "{says} is missing in {text}");
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
    }
}

#[tokio::test]
async fn what_is_no_review_gets_a_clear_error() {
    let server = Server::start(CONFIG);
    for (body, says) in [
        ("", "not an AdmissionReview: EOF"),
        ("{", "not an AdmissionReview"),
        ("[]", "not an AdmissionReview"),
        (
            r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#,
            "admission.k8s.io/v1",
        ),
        (r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#, "contains no request"),
        (
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"EAT"}}"#,
            "unknown variant",
        ),
    ] {
        for path in ["/mutate", "/validate", "/warn"] {
            let (status, text) = server.post(path, body.to_owned().into()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
            assert!(text.contains(says), "{text}");
        }
    }
    server.expect_metric(r#"reviews_total{endpoint="warn",outcome="malformed"}"#, 6);
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let server = Server::start(CONFIG);
    let (status, _) = server.post("/mutate", vec![b' '; 8 << 20].into()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_not_waited_for() {
    let server = Server::start(CONFIG);
    let never = axum::body::Body::from_stream(server::Never);
    let (status, _) = server.post("/validate", never).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
}

#[tokio::test]
async fn outcomes_are_counted() {
    let server = Server::start(CONFIG);
    for name in [
        "validate-a-right-pod-is-allowed",
        "validate-host-network-is-refused",
        "validate-a-missing-gate-is-warned-of",
    ] {
        server.review("/validate", &case(name)["review"]).await;
    }
    for outcome in ["allowed", "refused", "warned"] {
        server.expect_metric(
            &format!(r#"reviews_total{{endpoint="validate",outcome="{outcome}"}}"#),
            1,
        );
    }
    server.expect_metric("missing_gates_total", 1);
    server.expect_metric(r#"review_duration_seconds_count{endpoint="validate"}"#, 3);
}

use super::*;
use crate::startup::client_with_deadlines;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::runtime::watcher::{Event, watcher};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

const EMPTY_LIST: &str =
    r#"{"kind":"NamespaceList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;

/// Answers lists, and begins to answer watches without ever ending them. Sends the path of each watch
/// to `watches`.
async fn stall_watches(listener: TcpListener, watches: mpsc::UnboundedSender<String>) {
    while let Ok((mut connection, _)) = listener.accept().await {
        let watches = watches.clone();
        tokio::spawn(async move {
            let mut request = [0; 4096];
            while let Ok(length @ 1..) = connection.read(&mut request).await {
                let request = String::from_utf8_lossy(&request[..length]);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
                let answer = if request.contains("watch=true") {
                    watches.send(request.lines().next().unwrap_or_default().to_owned()).unwrap();
                    format!("{head}transfer-encoding: chunked\r\n\r\n")
                } else {
                    format!("{head}content-length: {}\r\n\r\n{EMPTY_LIST}", EMPTY_LIST.len())
                };
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_stalls_fails_within_half_a_minute() {
    waygate_serving::tls::install_provider();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut watches) = mpsc::unbounded_channel();
    let server = tokio::spawn(stall_watches(listener, sender));
    let client = client_with_deadlines(kube::Config::new(url.parse().unwrap())).unwrap();
    let mut events = watcher(Api::<Namespace>::all(client), watch_config()).boxed();
    let path = async {
        let path = watches.recv().await.unwrap();
        (path, Instant::now())
    };
    let failure = async {
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => assert!(matches!(event, Event::Init | Event::InitDone), "{event:?}"),
                Err(_) => break,
            }
        }
        Instant::now()
    };
    let ((path, begun), failed) = tokio::join!(path, failure);
    assert!(failed - begun <= READ_TIMEOUT + Duration::from_secs(1), "{:?}", failed - begun);
    assert!(path.contains("timeoutSeconds=25") && path.contains("resourceVersion=1"), "{path}");
    server.abort();
}

#[test]
fn a_watch_ends_by_itself_before_its_silence_counts_as_a_failure() {
    // kube gives a watch up five seconds after its end, which counts as no failure.
    let seconds = u64::from(WATCH_SECONDS);
    assert!((seconds + 1..seconds + 5).contains(&READ_TIMEOUT.as_secs()));
}

use super::*;
use futures::FutureExt as _;
use serde_json::json;

const ONE: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

fn pod(name: &str) -> SlimPod {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

fn name(pods: &WatchedPods, uid: Uuid) -> Option<String> {
    kube::Resource::meta(&*pods.find(uid)?).name.clone()
}

/// Takes all that waits in the term's queue.
fn take_news(term: &Term) -> Vec<(Uuid, PodNews)> {
    std::iter::from_fn(|| term.queue.take_item().now_or_never())
        .map(|item| (item.pod, item.event.clone()))
        .collect()
}

#[tokio::test]
async fn news_wait_for_the_listener_of_their_time_and_pods_for_every_one() {
    let pods = WatchedPods::default();
    pods.store(ONE, pod("before")).await;
    let first = pods.begin_term(CancellationToken::new());
    assert_eq!(pods.list_uids(), HashSet::from([ONE]), "a term goes through the pods");
    pods.store(ONE, pod("then")).await;
    pods.store(OTHER, pod("other")).await;
    let news = take_news(&first);
    assert!(matches!(news[..], [(ONE, PodNews::Seen), (OTHER, PodNews::Seen)]));
    assert_eq!(name(&pods, ONE).as_deref(), Some("then"), "the latest is recorded");
    first.token.cancel();
    let second = pods.begin_term(CancellationToken::new());
    pods.remove(ONE, None).await;
    pods.remove(OTHER, Some(pod("other"))).await;
    let news = take_news(&second);
    assert!(matches!(news[..], [(ONE, PodNews::Seen), (OTHER, PodNews::LeftAlive(_))]));
    assert!(take_news(&first).is_empty() && pods.list_uids().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_watch_does_not_wait_for_a_listener_whose_term_has_ended() {
    let pods = WatchedPods::default();
    let term = pods.begin_term(CancellationToken::new());
    let stores = async {
        for number in 0..6000 {
            pods.store(Uuid::from_u128(number), pod("one")).await;
        }
    };
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(pods.list_uids().len() < 6000, "the queue is full");
        term.token.cancel();
    };
    tokio::time::timeout(Duration::from_secs(2), futures::future::join(stores, end)).await.unwrap();
    assert_eq!(pods.list_uids().len(), 6000);
}

#[tokio::test]
async fn pods_that_are_gone_after_a_gap_are_removed() {
    let pods = WatchedPods::default();
    let lists = pods.count_lists();
    for uid in [ONE, OTHER] {
        pods.store_listed(uid, pod("one")).await;
    }
    assert!(!pods.is_in_order() && *lists.borrow() == 0);
    pods.complete_list();
    assert_eq!((pods.list_uids().len(), *lists.borrow()), (2, 1));
    pods.begin_list();
    pods.store_listed(OTHER, pod("other")).await;
    assert_eq!(pods.list_uids().len(), 2, "until the list is complete");
    pods.complete_list();
    assert_eq!((pods.list_uids(), *lists.borrow()), (HashSet::from([OTHER]), 2));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_again_and_again_is_out_of_order_until_it_answers() {
    let pods = WatchedPods::default();
    assert!(!pods.is_in_order(), "nothing is listed");
    pods.note_answer();
    assert!(!pods.is_in_order());
    pods.complete_list();
    assert!(pods.is_in_order() && pods.wait_for_order().now_or_never().is_some());
    pods.note_failure();
    assert!(pods.is_in_order(), "one may pass by itself");
    pods.note_failure();
    assert!(!pods.is_in_order() && pods.wait_for_order().now_or_never().is_none());
    pods.note_answer();
    assert!(pods.is_in_order() && pods.wait_for_order().now_or_never().is_some());
    for _ in 0..2 {
        pods.note_failure();
    }
    tokio::time::advance(FAILURE_PERIOD).await;
    assert!(pods.is_in_order(), "it goes on, without events");
    pods.note_failure();
    assert!(pods.is_in_order(), "the first of new ones");
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_lately_is_no_known_pod() {
    let version = |version: &str| -> SlimPod {
        serde_json::from_value(json!({"metadata": {"resourceVersion": version}})).unwrap()
    };
    let pods = WatchedPods::default();
    for uid in [ONE, OTHER] {
        pods.store_listed(uid, version("1")).await;
    }
    assert!(pods.list_changed().is_empty(), "at a start");
    pods.store(ONE, version("2")).await;
    assert_eq!(pods.list_changed(), [ONE]);
    tokio::time::advance(LISTENER_GAP).await;
    assert!(pods.list_changed().is_empty(), "a listener has recorded it, and the lease looked");
    pods.begin_list();
    pods.store_listed(ONE, version("2")).await;
    pods.store_listed(OTHER, version("3")).await;
    assert_eq!(pods.list_changed(), [OTHER], "after a gap");
}

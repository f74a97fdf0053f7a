//! Faults of the links between Waygate and what it calls: each is seen by the worker, and what works
//! in spite of it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use testbed::{
    address_kinds::{ADDRESS_KINDS, EIP},
    leftovers::wait_until_nothing_is_left,
    links::{Answer, AnswerFault, HttpLink, Requests, WorkerLinks},
    pods::{annotated_pod, condition_status},
    stand::Stand,
    wait::TIMEOUT,
};

/// Sets a fault on a link of every worker, as any of them may be the one that makes the request.
fn answer_at_all(
    stand: &Stand,
    link: impl Fn(&WorkerLinks) -> &HttpLink,
    requests: &Requests,
    answer: &Answer,
) -> Vec<AnswerFault> {
    let links = stand.links.workers().iter();
    links.map(|worker| link(worker).answer_requests(requests.clone(), answer.clone())).collect()
}

fn count_answered(faults: &[AnswerFault]) -> usize {
    faults.iter().map(AnswerFault::count_answered).sum()
}

/// A pod gets its EIP, and gives it back.
async fn serve_one_pod(stand: &Stand) -> Result<()> {
    stand.create_pod(&EIP.requesting_pod(&[])).await?;
    EIP.wait_until_it_works(stand).await?;
    stand.wait_for_condition(EIP.pod, "Ready", "True", TIMEOUT).await?;
    stand.delete_pod(EIP.pod).await?;
    wait_until_nothing_is_left(stand).await
}

#[tokio::test]
async fn a_condition_that_the_api_server_refuses_once_is_written_again() -> Result<()> {
    let stand = Stand::start_with_links().await?;
    let requests = Requests::to("PATCH", format!("*/pods/{}/status", EIP.pod));
    let answer = Answer::api_error(500, "InternalError", "a fault of this test").times(1);
    let faults = answer_at_all(&stand, WorkerLinks::api_server, &requests, &answer);
    serve_one_pod(&stand).await?;
    ensure!(count_answered(&faults) >= 1, "no worker met the fault");
    Ok(())
}

/// Reads of the pods fail for a while; the API server itself never said that one is gone.
#[tokio::test]
async fn a_404_that_names_no_pod_ends_no_lease() -> Result<()> {
    const FOR: Duration = Duration::from_secs(20);
    let stand = Stand::start_with_links().await?;
    for kind in ADDRESS_KINDS {
        stand.create_pod(&kind.requesting_pod(&[])).await?;
        kind.wait_until_it_works(&stand).await?;
    }
    let answer = Answer::of_a_proxy(404, "404 page not found");
    let faults =
        answer_at_all(&stand, WorkerLinks::api_server, &Requests::to("GET", "*/pods/*"), &answer);
    let begun = std::time::Instant::now();
    while begun.elapsed() < FOR {
        stand.wake_leases().await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        for kind in ADDRESS_KINDS {
            let pod = stand.pods().get(kind.pod).await?;
            ensure!(condition_status(&pod, kind.gate) == Some("True"), "{} is withdrawn", kind.pod);
        }
    }
    ensure!(count_answered(&faults) >= 10, "the leases looked no further");
    let reasons = "SELECT DISTINCT reason FROM lease";
    let reasons: Vec<String> = sqlx::query_scalar(reasons).fetch_all(&stand.database).await?;
    ensure!(reasons == ["KubernetesUnavailable"], "the leases wait for {reasons:?}");
    for action in ["UnassociateEipAddress", "ReleaseEipAddress", "DeleteForwardEntry"] {
        ensure!(stand.cloud.count_calls_of(action).await? == 0, "{action} was called");
    }
    faults.iter().for_each(AnswerFault::lift);
    stand.wait_until_leases_rest().await?;
    for kind in ADDRESS_KINDS {
        stand.delete_pod(kind.pod).await?;
    }
    wait_until_nothing_is_left(&stand).await
}

/// The write took effect, and the worker does not know.
#[tokio::test]
async fn a_condition_whose_answer_is_lost_is_read_before_it_is_written_again() -> Result<()> {
    let stand = Stand::start_with_links().await?;
    let requests = Requests::to("PATCH", format!("*/pods/{}/status", EIP.pod));
    let answer = Answer::api_error(504, "Timeout", "a fault of this test").times(1);
    let faults =
        answer_at_all(&stand, WorkerLinks::api_server, &requests, &answer.after_the_server());
    serve_one_pod(&stand).await?;
    ensure!(count_answered(&faults) >= 1, "no worker met the fault");
    Ok(())
}

#[tokio::test]
async fn an_action_that_the_cloud_refuses_for_a_while_is_asked_again() -> Result<()> {
    let stand = Stand::start_with_links().await?;
    let requests = Requests::OfAction("DescribeEipAddresses");
    let answer = Answer::cloud_error(503, "ServiceUnavailable", "a fault of this test");
    let faults = answer_at_all(&stand, WorkerLinks::cloud, &requests, &answer);
    stand.create_pod(&EIP.requesting_pod(&[])).await?;
    let met = || async { Ok((count_answered(&faults) >= 2).then_some(())) };
    stand.eventually(met, "reads are refused", TIMEOUT).await?;
    faults.iter().for_each(AnswerFault::lift);
    EIP.wait_until_it_works(&stand).await?;
    stand.delete_pod(EIP.pod).await?;
    wait_until_nothing_is_left(&stand).await
}

/// Creates pods until one of them has its EIP within some seconds. A change whose answer is lost is
/// asked for again only after its fence of a minute, so a pod that meets a stalled connection is not
/// waited for.
async fn wait_until_some_pod_is_served(stand: &Stand) -> Result<()> {
    const PODS: usize = 12;
    for number in 0..PODS {
        let name = format!("try-{number}");
        stand.create_pod(&annotated_pod(&name, EIP.request)).await?;
        let served = stand.wait_for_condition(&name, EIP.gate, "True", Duration::from_secs(5));
        if served.await.is_ok() {
            return Ok(());
        }
    }
    bail!("none of {PODS} pods was served in time")
}

/// What the stalled worker took before it knew waits for its calls' end; what comes then is served by
/// the other, as fast as if there were no stalled one.
#[tokio::test]
async fn pods_are_served_by_the_worker_whose_cloud_answers() -> Result<()> {
    // A change that the stalled worker had taken would cost its fence of a minute.
    const SERVED_WITHIN: Duration = Duration::from_secs(45);
    let stand = Stand::start_with_links().await?;
    stand.links.worker(0)?.cloud().stall_traffic();
    for number in 0..4 {
        stand.create_pod(&annotated_pod(&format!("try-{number}"), EIP.request)).await?;
    }
    // Both workers look at leases that are woken, the stalled one sooner or later as well.
    let silent = || async {
        stand.wake_leases().await?;
        Ok(is_cloud_silent(&stand, 0).await?.then_some(()))
    };
    stand.eventually(silent, "the stalled worker knows that its cloud is silent", TIMEOUT).await?;
    ensure!(!is_cloud_silent(&stand, 1).await?, "the other worker's cloud answers");
    let later: Vec<_> = ADDRESS_KINDS
        .iter()
        .flat_map(|kind| (0..4).map(move |number| (format!("{}-{number}", kind.pod), kind)))
        .collect();
    for (name, kind) in &later {
        stand.create_pod(&annotated_pod(name, kind.request)).await?;
    }
    let served = later
        .iter()
        .map(|(name, kind)| stand.wait_for_condition(name, kind.gate, "True", SERVED_WITHIN));
    futures::future::try_join_all(served).await?;

    stand.links.worker(0)?.cloud().restore_traffic().await?;
    let answers = || async { Ok((!is_cloud_silent(&stand, 0).await?).then_some(())) };
    stand.eventually(answers, "the worker sees that its cloud answers again", TIMEOUT).await
}

async fn is_cloud_silent(stand: &Stand, worker: usize) -> Result<bool> {
    let metrics = reqwest::get(format!("{}/metrics", stand.worker_admins[worker])).await?;
    let metrics = metrics.error_for_status()?.text().await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix("waygate_cloud_silent "));
    Ok(value.context("the metric is missing")? == "1")
}

#[tokio::test]
async fn pods_are_served_by_new_connections_to_the_cloud() -> Result<()> {
    let stand = Stand::start_with_links().await?;
    serve_one_pod(&stand).await?;
    stand.links.workers().iter().for_each(|worker| worker.cloud().stall_old_connections());
    wait_until_some_pod_is_served(&stand).await
}

#[tokio::test]
async fn connections_that_are_reset_are_made_again() -> Result<()> {
    let stand = Stand::start_with_links().await?;
    let before: Vec<_> = stand.links.workers().iter().map(count_connections).collect();
    for worker in stand.links.workers() {
        worker.api_server().reset_connections();
        worker.database().reset_connections();
        worker.cloud().reset_connections();
    }
    stand.links.webhook_database(0)?.reset_connections();
    serve_one_pod(&stand).await?;
    for (worker, before) in stand.links.workers().iter().zip(before) {
        ensure!(count_connections(worker) > before, "a worker did not connect anew");
    }
    Ok(())
}

fn count_connections(worker: &WorkerLinks) -> u64 {
    worker.api_server().count_connections() + worker.database().count_connections()
}

#[tokio::test]
async fn a_far_postgres_and_api_server_slow_pods_down_and_lose_none() -> Result<()> {
    const DELAY: Duration = Duration::from_millis(20);
    let stand = Stand::start_with_links().await?;
    stand.links.databases().for_each(|link| link.delay_traffic(DELAY));
    stand.links.workers().iter().for_each(|worker| worker.api_server().delay_traffic(DELAY));
    serve_one_pod(&stand).await
}

#[tokio::test]
async fn a_worker_without_postgres_leaves_its_pods_to_the_other() -> Result<()> {
    let stand = Stand::start_with_links().await?;
    stand.links.worker(0)?.database().cut_connections().await?;
    serve_one_pod(&stand).await?;
    stand.links.worker(0)?.database().restore_traffic().await?;
    let ready = || async {
        let answer = reqwest::get(format!("{}/readyz", stand.worker_admins[0])).await?;
        Ok(answer.status().is_success().then_some(()))
    };
    stand.eventually(ready, "the worker is ready again", TIMEOUT).await
}

#[tokio::test]
async fn a_webhook_whose_postgres_stalls_admits_pods_all_the_same() -> Result<()> {
    let stand = Stand::start_with_links().await?;
    for number in 0..2 {
        stand.links.webhook_database(number)?.stall_traffic();
    }
    let pod = stand.create_pod(&EIP.requesting_pod(&[])).await?;
    ensure!(pod.spec.is_some_and(|spec| spec.readiness_gates.is_some()), "the pod has no gate");
    // The announcement is lost, and the worker's watch finds the pod.
    EIP.wait_until_it_works(&stand).await.map(drop)
}

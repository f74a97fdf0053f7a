//! A fake cloud whose filter finds no address out of a prefix, which the API's documentation allows
//! and the simulator does not simulate. Just enough HTTP for the client.

use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use waygate_cloud::{Cloud, Credentials, LocalPermits, Network, Settings};
use waygate_core::ids::{RegionId, VpcId};

#[tokio::test]
async fn an_address_out_of_a_prefix_is_found_by_its_block_and_read_afresh() -> anyhow::Result<()> {
    let (cloud, asked) = start().await?;
    let inside: Ipv4Addr = "10.0.1.7".parse()?;
    let found = cloud.eni_by_private_ip(inside).await?;
    assert_eq!(found.value.map(|eni| eni.eni_id.to_string()), Some("eni-1".to_owned()));
    assert_eq!(take(&asked), ["by address", "all", "by id"]);

    // The index is used again, but its interface is read again before it is returned.
    assert!(cloud.eni_by_private_ip("10.0.1.8".parse()?).await?.value.is_some());
    assert_eq!(take(&asked), ["by address", "by id"]);

    // An address in no prefix does not cause a list each time.
    assert!(cloud.eni_by_private_ip("10.0.2.1".parse()?).await?.value.is_none());
    assert_eq!(take(&asked), ["by address"]);
    Ok(())
}

type Asked = Arc<Mutex<Vec<&'static str>>>;

#[cfg(test)]
fn take(asked: &Asked) -> Vec<&'static str> {
    std::mem::take(&mut *asked.lock().unwrap())
}

async fn start() -> anyhow::Result<(Cloud, Asked)> {
    _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}/", listener.local_addr()?).parse()?;
    let asked = Asked::default();
    tokio::spawn({
        let asked = Arc::clone(&asked);
        async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&asked)));
            }
        }
    });
    let settings = Settings {
        region: RegionId::new("cn-test"),
        vpc: VpcId::new("vpc-1"),
        endpoint: Some(endpoint),
        network: Network::Public,
        call_deadline: Duration::from_secs(20),
        user_agent_suffix: String::new(),
    };
    let credentials = Credentials::access_key("id", "secret".into());
    Ok((Cloud::new(settings, credentials, Arc::new(LocalPermits::with_published_rates()))?, asked))
}

/// Answers one request and closes the connection.
async fn serve(mut connection: TcpStream, asked: Asked) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await?);
    }
    let body = answer(&String::from_utf8_lossy(&head), &asked).to_string();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(answer.as_bytes()).await
}

fn answer(head: &str, asked: &Asked) -> Value {
    let (kind, sets) = if head.contains("PrivateIpAddress.1=") {
        ("by address", json!([]))
    } else {
        let interface = json!({
            "NetworkInterfaceId": "eni-1", "VSwitchId": "vsw-1", "VpcId": "vpc-1", "ZoneId": "z", "PrivateIpAddress": "10.0.0.1",
            "PrivateIpSets": {"PrivateIpSet": [{"PrivateIpAddress": "10.0.0.1", "Primary": true}]},
            "Ipv4PrefixSets": {"Ipv4PrefixSet": [{"Ipv4Prefix": "10.0.1.0/28"}]},
        });
        (if head.contains("NetworkInterfaceId.1=") { "by id" } else { "all" }, json!([interface]))
    };
    if let Ok(mut asked) = asked.lock() {
        asked.push(kind);
    }
    json!({"RequestId": "R", "NextToken": "", "NetworkInterfaceSets": {"NetworkInterfaceSet": sets}})
}

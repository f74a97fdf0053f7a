//! A TCP connection's way through the testbed, which a test can cut or stall.
//!
//! Postgres is shared by all tests. Each stand reaches it through a link of its own, so that one
//! test can have its database "down" while the others go on.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// State of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    /// Bytes pass both ways.
    Flows,
    /// Connections stay open and nothing passes: a partition, or a machine that is paused.
    Stalled,
    /// Connections are closed and new ones refused: the server is down.
    Cut,
}

/// A link to one server, or to several equal ones.
#[derive(Debug)]
pub struct ProxyLink {
    address: SocketAddr,
    traffic: watch::Sender<Traffic>,
    listening: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl ProxyLink {
    /// Opens a link to a server on a free port of the loopback interface.
    pub async fn to_server(server: String) -> Result<Self> {
        Self::to_servers(vec![server]).await
    }

    /// Opens a link to several equal servers, as a Service is: each connection goes to the next of
    /// those that accept one.
    pub async fn to_servers(servers: Vec<String>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (traffic, orders) = watch::channel(Traffic::Flows);
        let (report, listening) = watch::channel(true);
        let task = tokio::spawn(accept_connections(listener, Arc::from(servers), orders, report));
        Ok(Self { address, traffic, listening, task })
    }

    /// Address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server is down: connections break, new ones are refused.
    pub async fn cut_connections(&self) -> Result<()> {
        self.set_traffic(Traffic::Cut, false).await
    }

    /// Stops all bytes and keeps connections open.
    pub async fn stall_traffic(&self) -> Result<()> {
        self.set_traffic(Traffic::Stalled, true).await
    }

    /// Ends a cut or a stall.
    pub async fn restore_traffic(&self) -> Result<()> {
        self.set_traffic(Traffic::Flows, true).await
    }

    async fn set_traffic(&self, traffic: Traffic, listens: bool) -> Result<()> {
        self.traffic.send_replace(traffic);
        self.listening.clone().wait_for(|now| *now == listens).await.context("the link is gone")?;
        Ok(())
    }
}

impl Drop for ProxyLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts connections while the link is not cut.
async fn accept_connections(
    listener: TcpListener,
    servers: Arc<[String]>,
    mut orders: watch::Receiver<Traffic>,
    report: watch::Sender<bool>,
) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = Some(listener);
    let mut first = 0;
    loop {
        let cut = *orders.borrow_and_update() == Traffic::Cut;
        if cut {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        report.send_replace(listener.is_some());
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => if let Some((client, _)) = accepted {
                first += 1;
                tokio::spawn(forward_connection(client, Arc::clone(&servers), first, orders.clone()));
            },
            changed = orders.changed() => if changed.is_err() { return },
        }
    }
}

/// Passes one connection's bytes both ways until one side ends or the link is cut. `first` is the
/// number of the server that is tried first.
async fn forward_connection(
    client: TcpStream,
    servers: Arc<[String]>,
    first: usize,
    mut orders: watch::Receiver<Traffic>,
) {
    let Some(upstream) = connect_any(&servers, first).await else { return };
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = upstream.into_split();
    tokio::select! {
        _ = copy_bytes(client_reads, server_writes, orders.clone()) => {}
        _ = copy_bytes(server_reads, client_writes, orders.clone()) => {}
        _ = orders.wait_for(|traffic| *traffic == Traffic::Cut) => {}
    }
}

/// Connects to the first server that accepts, from number `first` on.
async fn connect_any(servers: &[String], first: usize) -> Option<TcpStream> {
    for number in first..first + servers.len() {
        if let Ok(upstream) = TcpStream::connect(&servers[number % servers.len()]).await {
            return Some(upstream);
        }
    }
    None
}

async fn copy_bytes(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut orders: watch::Receiver<Traffic>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        orders.wait_for(|traffic| *traffic == Traffic::Flows).await?;
        to.write_all(&buffer[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A server that answers every byte with itself.
    async fn start_echo_server() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reads, mut writes) = stream.split();
                    tokio::io::copy(&mut reads, &mut writes).await
                });
            }
        });
        address
    }

    async fn send_byte(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_u8(7).await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_cut_link_breaks_connections_and_refuses_new_ones_until_it_is_restored() {
        let link = ProxyLink::to_server(start_echo_server().await).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(send_byte(&mut stream).await.unwrap(), 7);

        link.cut_connections().await.unwrap();
        assert!(send_byte(&mut stream).await.is_err());
        assert!(TcpStream::connect(link.address()).await.is_err());

        link.restore_traffic().await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(send_byte(&mut stream).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn connections_go_to_the_next_server_that_accepts_them() {
        let ended = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let servers = vec![start_echo_server().await, ended, start_echo_server().await];
        let link = ProxyLink::to_servers(servers).await.unwrap();
        for _ in 0..6 {
            let mut stream = TcpStream::connect(link.address()).await.unwrap();
            assert_eq!(send_byte(&mut stream).await.unwrap(), 7);
        }
    }

    #[tokio::test]
    async fn a_stalled_link_answers_late_but_answers() {
        let link = ProxyLink::to_server(start_echo_server().await).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        link.stall_traffic().await.unwrap();
        stream.write_u8(7).await.unwrap();
        timeout(Duration::from_millis(100), stream.read_u8()).await.unwrap_err();
        link.restore_traffic().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 7);
    }
}

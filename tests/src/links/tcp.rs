//! A link that passes bytes, to one server or to several equal ones.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Chunks that are under way in one direction of a connection; more wait in the kernel.
const CHUNKS: usize = 64;

/// Orders for all connections of a link. Connections are numbered from 1 in the order in which they
/// are accepted.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    /// True while connections are closed and new ones refused.
    cut: bool,
    /// True while nothing passes on any connection.
    stalled: bool,
    /// Nothing passes on connections below this number.
    stalled_below: u64,
    /// Connections below this number are reset.
    reset_below: u64,
    /// Time that bytes are under way.
    delay: Duration,
}

impl Orders {
    fn let_pass(&self, connection: u64) -> bool {
        !self.stalled && connection >= self.stalled_below
    }

    fn end(&self, connection: u64) -> bool {
        self.cut || connection < self.reset_below
    }
}

/// A link to one server, or to several equal ones.
#[derive(Debug)]
pub struct TcpLink {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    listening: watch::Receiver<bool>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl TcpLink {
    /// Opens a link to a server on a free port of the loopback interface.
    pub async fn to_server(server: String) -> Result<Self> {
        Self::to_servers(vec![server]).await
    }

    /// Opens a link to several equal servers, as a Service is: each connection goes to the next of
    /// those that accept one.
    pub async fn to_servers(servers: Vec<String>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (orders, followed) = watch::channel(Orders::default());
        let (report, listening) = watch::channel(true);
        let accepted = Arc::new(AtomicU64::new(0));
        let acceptor = Acceptor {
            servers: Arc::from(servers),
            orders: followed,
            report,
            accepted: Arc::clone(&accepted),
        };
        let task = tokio::spawn(acceptor.accept_connections(listener));
        Ok(Self { address, orders, listening, accepted, task })
    }

    /// Address that clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of connections that were accepted so far.
    #[must_use]
    pub fn count_connections(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The server is down: connections break, new ones are refused.
    pub async fn cut_connections(&self) -> Result<()> {
        self.orders.send_modify(|orders| orders.cut = true);
        self.wait_until_listening(false).await
    }

    /// Stops all bytes, on new connections as well, and keeps connections open: a partition, or a
    /// server that is paused.
    pub fn stall_traffic(&self) {
        self.orders.send_modify(|orders| orders.stalled = true);
    }

    /// Stops all bytes on the connections that there are, both ways and for as long as they last; new
    /// ones work: a server that was replaced without a word, or a NAT that forgot its connections.
    pub fn stall_old_connections(&self) {
        let next = self.count_connections() + 1;
        self.orders.send_modify(|orders| orders.stalled_below = next);
    }

    /// Resets the connections that there are (RST); new ones work: a server that crashed and is back.
    pub fn reset_connections(&self) {
        let next = self.count_connections() + 1;
        self.orders.send_modify(|orders| orders.reset_below = next);
    }

    /// Lets bytes arrive later by this time, each way: a far server.
    pub fn delay_traffic(&self, delay: Duration) {
        self.orders.send_modify(|orders| orders.delay = delay);
    }

    /// Ends all faults. Bytes that were held arrive.
    pub async fn restore_traffic(&self) -> Result<()> {
        self.orders.send_modify(|orders| {
            *orders = Orders { reset_below: orders.reset_below, ..Orders::default() };
        });
        self.wait_until_listening(true).await
    }

    async fn wait_until_listening(&self, listens: bool) -> Result<()> {
        self.listening.clone().wait_for(|now| *now == listens).await.context("the link is gone")?;
        Ok(())
    }
}

impl Drop for TcpLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The accepting half of a link.
struct Acceptor {
    servers: Arc<[String]>,
    orders: watch::Receiver<Orders>,
    report: watch::Sender<bool>,
    accepted: Arc<AtomicU64>,
}

impl Acceptor {
    /// Accepts connections while the link is not cut.
    async fn accept_connections(mut self, listener: TcpListener) {
        let Ok(address) = listener.local_addr() else { return };
        let mut listener = Some(listener);
        loop {
            if self.orders.borrow_and_update().cut {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind(address).await.ok();
            }
            self.report.send_replace(listener.is_some());
            let accept = async {
                match &listener {
                    Some(listener) => listener.accept().await.ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                accepted = accept => if let Some((client, _)) = accepted {
                    let number = self.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                    let connection = Connection { number, orders: self.orders.clone() };
                    tokio::spawn(connection.forward_bytes(client, Arc::clone(&self.servers)));
                },
                changed = self.orders.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// One connection of a link.
#[derive(Clone)]
struct Connection {
    number: u64,
    orders: watch::Receiver<Orders>,
}

impl Connection {
    /// Passes bytes both ways until one side ends, or the link is cut or reset.
    async fn forward_bytes(mut self, mut client: TcpStream, servers: Arc<[String]>) {
        let Some(mut server) = self.connect_any(&servers).await else { return };
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let (up, down) = (self.clone(), self.clone());
        let number = self.number;
        tokio::select! {
            _ = up.copy_bytes(client_reads, server_writes) => {}
            _ = down.copy_bytes(server_reads, client_writes) => {}
            ordered = self.orders.wait_for(|orders| orders.end(number)) => {
                if ordered.is_ok_and(|orders| !orders.cut) {
                    // What is closed so sends RST.
                    drop((client.set_zero_linger(), server.set_zero_linger()));
                }
            }
        }
    }

    /// Connects to the first server that accepts; each connection begins with another one.
    async fn connect_any(&self, servers: &[String]) -> Option<TcpStream> {
        let first = usize::try_from(self.number).unwrap_or_default();
        for number in first..first + servers.len() {
            if let Ok(server) = TcpStream::connect(&servers[number % servers.len()]).await {
                return Some(server);
            }
        }
        None
    }

    /// Passes bytes one way, in their order, each chunk after its delay.
    async fn copy_bytes(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<()> {
        let (under_way, mut arrivals) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
        let orders = self.orders.clone();
        let read = async move {
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let count = from.read(&mut chunk).await?;
                if count == 0 {
                    return anyhow::Ok(());
                }
                chunk.truncate(count);
                let arrival = Instant::now() + orders.borrow().delay;
                under_way.send((arrival, chunk)).await?;
            }
        };
        let write = async {
            while let Some((arrival, chunk)) = arrivals.recv().await {
                if arrival > Instant::now() {
                    sleep_until(arrival).await;
                }
                self.orders.wait_for(|orders| orders.let_pass(self.number)).await?;
                to.write_all(&chunk).await?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(read, write).map(drop)
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
        let link = TcpLink::to_server(start_echo_server().await).await.unwrap();
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
        let link = TcpLink::to_servers(servers).await.unwrap();
        for _ in 0..6 {
            let mut stream = TcpStream::connect(link.address()).await.unwrap();
            assert_eq!(send_byte(&mut stream).await.unwrap(), 7);
        }
    }

    #[tokio::test]
    async fn a_stalled_link_answers_late_but_answers() {
        let link = TcpLink::to_server(start_echo_server().await).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        link.stall_traffic();
        stream.write_u8(7).await.unwrap();
        timeout(Duration::from_millis(100), stream.read_u8()).await.unwrap_err();
        link.restore_traffic().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 7);
    }

    #[tokio::test]
    async fn stalled_old_connections_answer_no_more_and_new_ones_do() {
        let link = TcpLink::to_server(start_echo_server().await).await.unwrap();
        let mut old = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(send_byte(&mut old).await.unwrap(), 7);

        link.stall_old_connections();
        old.write_u8(8).await.unwrap();
        timeout(Duration::from_millis(100), old.read_u8()).await.unwrap_err();
        let mut new = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(send_byte(&mut new).await.unwrap(), 7);
        assert_eq!(link.count_connections(), 2);

        link.restore_traffic().await.unwrap();
        assert_eq!(old.read_u8().await.unwrap(), 8);
    }

    #[tokio::test]
    async fn reset_connections_end_with_an_error_and_new_ones_work() {
        let link = TcpLink::to_server(start_echo_server().await).await.unwrap();
        let mut old = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(send_byte(&mut old).await.unwrap(), 7);

        link.reset_connections();
        let error = old.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let mut new = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(send_byte(&mut new).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn delayed_bytes_are_late_by_both_ways_together_and_keep_their_order() {
        const DELAY: Duration = Duration::from_millis(100);
        let link = TcpLink::to_server(start_echo_server().await).await.unwrap();
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        link.delay_traffic(DELAY);
        let began = Instant::now();
        stream.write_all(b"ab").await.unwrap();
        stream.write_all(b"cd").await.unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.unwrap();
        assert!(began.elapsed() >= 2 * DELAY, "{:?}", began.elapsed());
        assert_eq!(&echo, b"abcd");

        link.restore_traffic().await.unwrap();
        assert_eq!(send_byte(&mut stream).await.unwrap(), 7);
    }
}

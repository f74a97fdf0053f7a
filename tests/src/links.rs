//! Links of a stand: the ways of its programs to API server, Postgres and cloud, each with faults.
//!
//! ```text
//! API server ──▶ webhooks()              ──▶ every webhook in turn
//! webhook N  ──▶ webhook_database(N)     ──▶ Postgres
//! worker N   ──▶ worker(N).database()    ──▶ Postgres
//!            ──▶ worker(N).api_server()  ──▶ API server      TLS ends at the link and begins again
//!            ──▶ worker(N).cloud()       ──▶ simulator
//! ```
//!
//! API server and Postgres are shared by all tests. Through links of its own a test can have them
//! "down", or one of its workers cut off, while the others go on.

pub mod http;
pub mod requests;
pub mod tcp;

use anyhow::{Context as _, Result, ensure};
use futures::future::{try_join_all, try_join3};
use jiff::Timestamp;
use url::Url;
use waygate_certs::Authority;

use crate::{cloud::Cloud, cluster::ApiServer, database::Database};

pub use self::{
    http::HttpLink,
    requests::{Answer, AnswerFault, Requests},
    tcp::TcpLink,
};

/// The ways of one worker.
#[derive(Debug)]
pub struct WorkerLinks {
    api_server: HttpLink,
    database: TcpLink,
    cloud: HttpLink,
}

impl WorkerLinks {
    /// The worker's way to the API server.
    #[must_use]
    pub fn api_server(&self) -> &HttpLink {
        &self.api_server
    }

    /// The worker's way to Postgres.
    #[must_use]
    pub fn database(&self) -> &TcpLink {
        &self.database
    }

    /// The worker's way to the cloud.
    #[must_use]
    pub fn cloud(&self) -> &HttpLink {
        &self.cloud
    }
}

/// All links of a stand.
#[derive(Debug)]
pub struct Links {
    webhooks: TcpLink,
    webhook_databases: Vec<TcpLink>,
    workers: Vec<WorkerLinks>,
    authority: Authority,
}

impl Links {
    /// Opens the API server's way to the webhooks, and no others.
    pub async fn to_webhooks(listens: Vec<String>) -> Result<Self> {
        Ok(Self {
            webhooks: TcpLink::to_servers(listens).await?,
            webhook_databases: Vec::new(),
            workers: Vec::new(),
            authority: Authority::new(Timestamp::now())?,
        })
    }

    /// Opens the ways of this many webhooks and workers.
    pub async fn open_program_links(
        &mut self,
        (webhooks, workers): (usize, usize),
        api_server: &ApiServer,
        database: &Database,
        cloud: &Cloud,
    ) -> Result<()> {
        let names = ["127.0.0.1".to_owned()];
        let certificate = self.authority.issue_certificate(&names, Timestamp::now())?;
        let server = database.server()?;
        self.webhook_databases =
            try_join_all((0..webhooks).map(|_| TcpLink::to_server(server.clone()))).await?;
        let worker_links = || async {
            let (api_server, database, cloud) = try_join3(
                HttpLink::to_tls_server(&api_server.url, &api_server.ca_pem, &certificate),
                TcpLink::to_server(server.clone()),
                HttpLink::to_plain_server(&cloud.account.endpoint),
            )
            .await?;
            anyhow::Ok(WorkerLinks { api_server, database, cloud })
        };
        self.workers = try_join_all((0..workers).map(|_| worker_links())).await?;
        Ok(())
    }

    /// The API server's way to the webhooks.
    #[must_use]
    pub fn webhooks(&self) -> &TcpLink {
        &self.webhooks
    }

    /// The ways of a worker, from number 0 on.
    pub fn worker(&self, number: usize) -> Result<&WorkerLinks> {
        self.workers.get(number).with_context(|| format!("worker {number} has no links"))
    }

    /// The ways of all workers.
    #[must_use]
    pub fn workers(&self) -> &[WorkerLinks] {
        &self.workers
    }

    /// A webhook's way to Postgres, from number 0 on.
    pub fn webhook_database(&self, number: usize) -> Result<&TcpLink> {
        self.webhook_databases.get(number).with_context(|| format!("webhook {number} has no links"))
    }

    /// All ways to Postgres.
    pub fn databases(&self) -> impl Iterator<Item = &TcpLink> {
        self.webhook_databases.iter().chain(self.workers.iter().map(WorkerLinks::database))
    }

    /// Postgres is down for webhooks and workers.
    pub async fn cut_databases(&self) -> Result<()> {
        ensure!(!self.workers.is_empty(), "this stand has no links; its options ask for none");
        try_join_all(self.databases().map(TcpLink::cut_connections)).await.map(drop)
    }

    /// Postgres is back, and faults of its links have ended.
    pub async fn restore_databases(&self) -> Result<()> {
        try_join_all(self.databases().map(TcpLink::restore_traffic)).await.map(drop)
    }

    /// Certificate authority that a worker's link to the API server is of.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.authority.ca_pem()
    }
}

/// Lets a URL go through a link.
pub(crate) fn redirect_url(url: &str, link: &TcpLink) -> Result<String> {
    let mut redirected = Url::parse(url).context("a URL")?;
    redirected.set_host(Some("127.0.0.1"))?;
    redirected.set_port(Some(link.address().port())).ok().context("the URL takes no port")?;
    Ok(redirected.into())
}

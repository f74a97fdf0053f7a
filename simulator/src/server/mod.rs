//! The shell around the cloud: sockets, clocks and locks.
//!
//! Locks are held for the time of one state change and never across an await.

mod admin;
pub mod api;
mod connection;
mod console;
mod metadata;
mod respond;
mod state;

pub use state::Simulator;

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use jiff::Timestamp;
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::JoinSet,
};

use crate::args::{Args, LoadError};

/// The admin's routes and the console's, which share a port.
pub fn admin_router(simulator: Arc<Simulator>) -> Router {
    admin::admin_routes().merge(console::console_routes()).with_state(simulator)
}

/// Why the simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology cannot be loaded.
    #[error("the topology cannot be loaded")]
    Topology(#[from] LoadError),
    /// No port, or no signals.
    #[error("cannot listen, or cannot watch for signals")]
    Listen(#[from] std::io::Error),
}

/// A simulator that answers.
pub struct RunningSimulator {
    /// The shared state, for tests in the same process.
    pub simulator: Arc<Simulator>,
    /// Address of the signed API.
    pub endpoint: SocketAddr,
    /// Address of the admin interface.
    pub admin: SocketAddr,
    /// Address of the metadata service.
    pub metadata: SocketAddr,
    terminate: Signal,
    interrupt: Signal,
    tasks: JoinSet<()>,
}

impl RunningSimulator {
    /// Listens and serves in the background.
    pub async fn start(args: &Args) -> Result<Self, StartError> {
        // Before anything says that it is ready: a signal must never find the default handler,
        // which does not end cleanly.
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let settings = args.cloud_settings(args.load_topology()?, Timestamp::now());
        let simulator = Simulator::new(settings);
        let api = TcpListener::bind(args.listen).await?;
        let admin = TcpListener::bind(args.admin_listen).await?;
        let metadata = TcpListener::bind(args.metadata_listen).await?;
        let (endpoint, admin_address, metadata_address) =
            (api.local_addr()?, admin.local_addr()?, metadata.local_addr()?);
        let mut tasks = JoinSet::new();
        tasks.spawn(connection::accept_connections(api, api::api_routes(simulator.clone())));
        tasks.spawn(connection::accept_connections(admin, admin_router(simulator.clone())));
        tasks.spawn(connection::accept_connections(
            metadata,
            metadata::metadata_routes(simulator.clone(), args.metadata_protocols),
        ));
        Ok(Self {
            simulator,
            endpoint,
            admin: admin_address,
            metadata: metadata_address,
            terminate,
            interrupt,
            tasks,
        })
    }

    /// Returns the JSON line by which scripts find addresses, key and gateways.
    pub fn ready_line(&self) -> String {
        let cloud = self.simulator.lock_cloud();
        let (id, secret) = cloud
            .first_access_key()
            .map(|key| (key.id.as_str(), key.secret.as_str()))
            .unwrap_or_default();
        let topology = cloud.topology();
        json!({
            "endpoint": format!("http://{}", self.endpoint), "admin": format!("http://{}", self.admin),
            "metadata": format!("http://{}", self.metadata), "accountId": cloud.account_number(), "ramRole": metadata::ROLE,
            "accessKeyId": id, "accessKeySecret": secret, "regionId": topology.region, "vpcId": topology.vpc.id,
            "natGateways": cloud.gateway_summary(), "bandwidthPackages": topology.bandwidth_packages,
        })
        .to_string()
    }

    /// Serves until a signal comes or, if asked for, standard input ends.
    pub async fn serve_until_signal(mut self, exit_with_stdin: bool) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = wait_for_stdin_end(), if exit_with_stdin => {}
            _ = self.tasks.join_next() => tracing::error!("a listener has ended"),
        }
        self.tasks.shutdown().await;
    }
}

/// Read on a thread of its own: a blocked read must not keep the runtime from ending.
async fn wait_for_stdin_end() {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let read = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        tracing::info!(?read, "standard input has ended");
        ended.send(())
    });
    if end.await.is_err() {
        tracing::debug!("the reader of standard input has ended without a result");
    }
}

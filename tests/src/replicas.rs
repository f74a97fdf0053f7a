//! Several processes of one server, as a Deployment has them: started, stopped and killed together.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;

use crate::service::Service;

/// The processes of one server; the first has its plain name, the others a number behind it.
#[derive(Debug)]
pub struct Replicas(Vec<Service>);

impl Replicas {
    /// Replicas of which none is started yet.
    #[must_use]
    pub fn new(services: Vec<Service>) -> Self {
        Self(services)
    }

    /// Returns the replicas in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.0.iter()
    }

    /// Returns the replica of this number, from 0.
    pub fn nth(&self, number: usize) -> Result<&Service> {
        self.0.get(number).with_context(|| format!("there is no replica {number}"))
    }

    /// Starts all and waits until each is ready.
    pub async fn start(&self) -> Result<()> {
        try_join_all(self.iter().map(Service::start)).await.map(drop)
    }

    /// Ends all as the kubelet would.
    pub async fn stop(&self) -> Result<()> {
        try_join_all(self.iter().map(Service::stop)).await.map(drop)
    }

    /// Kills all in the middle of their work.
    pub async fn kill(&self) -> Result<()> {
        try_join_all(self.iter().map(Service::kill)).await.map(drop)
    }

    /// Reads the logs of all, one after the other.
    pub fn read_logs(&self) -> Result<String> {
        let mut logs = String::new();
        for service in self.iter() {
            write!(logs, "{}", std::fs::read_to_string(service.log_path())?)?;
        }
        Ok(logs)
    }
}

//! A server of ours as a process that a test can stop, kill, pause and start again, always under
//! the same addresses.

use std::{ffi::OsString, fs::OpenOptions, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use tokio::{process::Child, sync::Mutex};

use crate::{
    process,
    wait::{TIMEOUT, eventually},
};

/// Time limit until a server is ready on a busy machine.
const READY_TIMEOUT: Duration = TIMEOUT;

/// Command line and environment of a server.
#[derive(Clone, Debug)]
pub struct ProgramSpec {
    /// Name in messages, of the log and of the file with the process ID.
    pub name: String,
    /// Path of the executable.
    pub binary: PathBuf,
    /// Command-line arguments, without the program.
    pub arguments: Vec<OsString>,
    /// Environment variables added to the test's own.
    pub environment: Vec<(&'static str, OsString)>,
    /// Folder for logs and process IDs.
    pub dir: PathBuf,
    /// Answers 200 when it is ready.
    pub ready_url: String,
}

/// A server that a test starts and ends.
#[derive(Debug)]
pub struct Service {
    program: ProgramSpec,
    child: Mutex<Option<Child>>,
}

impl Service {
    /// A server that is not started yet.
    #[must_use]
    pub fn new(program: ProgramSpec) -> Self {
        Self { program, child: Mutex::new(None) }
    }

    /// Returns the name used in messages and file names.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.program.name
    }

    /// Returns the path of the log, which all restarts share.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.program.dir.join("logs").join(format!("{}.log", self.program.name))
    }

    fn pid_file(&self) -> PathBuf {
        self.program.dir.join("pids").join(&self.program.name)
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> Result<()> {
        self.spawn().await?;
        let awaited =
            format!("{} is ready (its log is {})", self.name(), self.log_path().display());
        eventually(|| self.check_ready(), &awaited, READY_TIMEOUT)
            .await
            .flatten()
            .with_context(|| self.log_tail())
    }

    /// Starts it; the caller will see whether it becomes ready.
    pub async fn spawn(&self) -> Result<()> {
        let mut child = self.child.lock().await;
        if let Some(running) = child.as_mut()
            && running.try_wait()?.is_none()
        {
            bail!("{} runs already", self.name());
        }
        for file in [self.log_path(), self.pid_file()] {
            std::fs::create_dir_all(file.parent().unwrap_or(&file))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let started = process::tethered_command(&self.program.binary)
            .args(&self.program.arguments)
            .envs(self.program.environment.iter().cloned())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} does not start", self.name()))?;
        std::fs::write(self.pid_file(), started.id().unwrap_or_default().to_string())?;
        *child = Some(started);
        Ok(())
    }

    /// `Some` when the question is settled: ready, or ended and thus never ready.
    async fn check_ready(&self) -> Result<Option<Result<()>>> {
        if self.has_ended().await? {
            return Ok(Some(Err(anyhow::anyhow!("{} ended before it was ready", self.name()))));
        }
        let answer = reqwest::get(&self.program.ready_url).await?;
        anyhow::ensure!(answer.status().is_success(), "{}", answer.text().await?);
        Ok(Some(Ok(())))
    }

    fn log_tail(&self) -> String {
        format!(
            "the end of {}:\n{}",
            self.log_path().display(),
            process::log_tail(&self.log_path())
        )
    }

    /// True if the server was started and has ended.
    pub async fn has_ended(&self) -> Result<bool> {
        match self.child.lock().await.as_mut() {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(false),
        }
    }

    /// Ends it as the kubelet would: SIGTERM, and SIGKILL only if that does not help.
    pub async fn stop(&self) -> Result<()> {
        if let Some(mut child) = self.child.lock().await.take() {
            process::end_child(&mut child, process::TERM_TIMEOUT).await?;
        }
        Ok(())
    }

    /// Kills the server in the middle of its work.
    pub async fn kill(&self) -> Result<()> {
        if let Some(mut child) = self.child.lock().await.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Pauses the process (SIGSTOP): connections stay open and nothing is answered.
    pub async fn pause(&self) -> Result<()> {
        self.send_signal(Signal::STOP).await
    }

    /// Lets a paused one go on, as if no time had passed.
    pub async fn resume(&self) -> Result<()> {
        self.send_signal(Signal::CONT).await
    }

    async fn send_signal(&self, signal: Signal) -> Result<()> {
        let id = self
            .child
            .lock()
            .await
            .as_ref()
            .and_then(Child::id)
            .with_context(|| format!("{} does not run", self.name()))?;
        process::send_signal(id, signal)
    }
}

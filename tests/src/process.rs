//! Child processes: started so that they cannot outlive us, and ended in order.

use std::{ffi::OsStr, path::Path, process::ExitStatus, sync::OnceLock, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time,
};

/// Time limit for a process to end after SIGTERM.
pub const TERM_TIMEOUT: Duration = Duration::from_secs(20);

/// Lines of a dead process' log that are shown.
const LOG_TAIL_LINES: usize = 25;

/// A command whose process the kernel kills when the *thread* that spawned it ends, for any reason.
/// Spawn it from a test's own thread or from `main`, not from a pool.
///
/// util-linux' `setpriv` sets the parent-death signal and becomes the program, process ID included.
/// Where `setpriv` is missing, the child ends only if we end in order.
#[must_use]
pub fn tethered_command(program: impl AsRef<OsStr>) -> Command {
    static TETHER: OnceLock<bool> = OnceLock::new();
    const SETPRIV: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "--"];
    let works = || {
        let trial = std::process::Command::new(SETPRIV[0]).args(&SETPRIV[1..]).arg("true").output();
        trial.is_ok_and(|output| output.status.success())
    };
    let mut command = if *TETHER.get_or_init(works) {
        let mut command = Command::new(SETPRIV[0]);
        command.args(&SETPRIV[1..]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.kill_on_drop(true);
    command
}

/// Ends a process: SIGTERM, and SIGKILL if that does not help in time.
pub async fn end_child(child: &mut Child, timeout: Duration) -> Result<ExitStatus> {
    if let Some(id) = child.id() {
        send_signal(id, Signal::TERM)?;
        // A paused process would not notice.
        send_signal(id, Signal::CONT)?;
    }
    if let Ok(status) = time::timeout(timeout, child.wait()).await {
        return Ok(status?);
    }
    child.kill().await?;
    Ok(child.wait().await?)
}

/// Sends a signal; a process that is gone already is no error.
pub fn send_signal(id: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("not a process ID")?;
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// True if a process of this ID runs.
#[must_use]
pub fn is_running(id: u32) -> bool {
    // A zombie still has an ID, but nothing of it runs.
    let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    status.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// The end of a log file, indented.
#[must_use]
pub fn log_tail(log: &Path) -> String {
    let text = match std::fs::read(log) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(no log: {error})"),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..]
        .iter()
        .fold(String::new(), |tail, line| tail + "  " + line + "\n")
}

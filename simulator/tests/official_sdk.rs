//! The proof that the simulator passes for the real thing: the official Python SDKs, changed in
//! nothing but the endpoint.
//!
//! The SDKs come from PyPI into a virtual environment under `target/python-sdk`, made once. Without
//! Python the test fails and says why; it never passes unproven.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Pinned where the simulator's field tables were read; newer ones may know more fields.
const PACKAGES: [&str; 3] = [
    "alibabacloud_vpc20160428==7.2.2",
    "alibabacloud_ecs20140526==7.11.8",
    "alibabacloud_sts20150401==1.2.0",
];

fn run_checked(command: &mut Command, what: &str) {
    let output = command.output().map_err(|error| format!("{what}: {command:?}: {error}")).unwrap();
    assert!(
        output.status.success(),
        "{what}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Returns the environment's Python; the first test makes the environment, the others wait.
fn prepare_python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let home = target.join("python-sdk");
    let lock = File::create(target.join("python-sdk.lock")).unwrap();
    lock.lock().unwrap();
    let (python, done) = (home.join("bin/python"), home.join("installed"));
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == PACKAGES.join("\n")) {
        return python;
    }
    run_checked(
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home),
        "a virtual environment is needed for the official SDKs",
    );
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run_checked(
        Command::new(&python).args(pip).args(PACKAGES),
        "the official SDKs cannot be installed",
    );
    std::fs::write(done, PACKAGES.join("\n")).unwrap();
    python
}

/// A simulator that ends with the test, as its standard input does.
fn start_simulator(profile: &str) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_simulator"))
        .args(["--exit-with-stdin", "--profile", profile])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    (child, ready)
}

fn run_life_cycles(profile: &str) {
    let python = prepare_python();
    let (mut child, ready) = start_simulator(profile);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/lives.py");
    run_checked(Command::new(python).arg(script).arg(ready.trim()), profile);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_official_sdk_passes_all_life_cycles() {
    run_life_cycles("instant");
}

#[test]
fn the_official_sdk_passes_all_life_cycles_in_a_strict_cloud() {
    run_life_cycles("strict");
}

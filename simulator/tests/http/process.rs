//! The process itself: ready line, signals, end of standard input.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

fn start(arguments: &[&str]) -> (Child, Value) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_simulator"))
        .args(["--profile", "instant"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

fn ended(mut child: Child) -> ExitStatus {
    let pid = child.id().to_string();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait()));
    let status = told.recv_timeout(Duration::from_secs(10));
    if status.is_err() {
        Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap();
    }
    status.unwrap().unwrap()
}

#[test]
fn the_ready_line_has_all_a_script_needs() {
    let (mut child, ready) = start(&["--exit-with-stdin"]);
    for field in
        ["endpoint", "admin", "metadata", "accessKeyId", "accessKeySecret", "regionId", "vpcId"]
    {
        assert!(ready[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    let gateway = &ready["natGateways"][1];
    for field in ["natGatewayId", "forwardTableId", "zoneId"] {
        assert!(gateway[field].is_string(), "{field}");
    }
    assert_eq!(gateway["eips"].as_array().unwrap().len(), 2);
    drop(child.stdin.take());
    assert!(ended(child).success(), "the end of standard input is a clean end");
}

#[test]
fn signals_end_it_cleanly_though_standard_input_stays_open() {
    for signal in ["TERM", "INT"] {
        let (mut child, _) = start(&["--exit-with-stdin"]);
        let open = child.stdin.take();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        assert!(ended(child).success(), "{signal}");
        drop(open);
    }
}

#[test]
fn the_printed_topology_can_be_served() {
    let printed =
        Command::new(env!("CARGO_BIN_EXE_simulator")).arg("--print-topology").output().unwrap();
    let topology =
        simulator::topology::Topology::from_yaml(&String::from_utf8(printed.stdout).unwrap())
            .unwrap();
    assert_eq!(topology.nodes.len(), 4);
}

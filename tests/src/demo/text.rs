//! How the story is written for people.

use std::io::IsTerminal as _;

use serde_json::Value;

/// The annotations that tell an address.
pub(super) const ADDRESSES: [&str; 2] = ["k8s.aliyun.com/allocated-eipAddress", "k8s.aliyun.com/allocated-dnat"];

pub(super) fn heading(text: &str) {
    println!("\n{}", paint(BOLD, text));
}

const BOLD: u8 = 1;
pub(super) const GREEN: u8 = 32;
pub(super) const YELLOW: u8 = 33;

/// Text in a colour, where it is a person who reads.
pub(super) fn paint(code: u8, text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// An annotation's value for people: the list of ports as `IP:PORT → PORT/PROTOCOL`.
pub(super) fn readable(value: &str) -> String {
    let Ok(Value::Array(ports)) = serde_json::from_str(value) else { return value.to_owned() };
    let text = |port: &Value, key: &str| port[key].as_str().map_or_else(|| port[key].to_string(), str::to_owned);
    let lines = ports.iter().map(|port| {
        format!("{}:{} → {}/{}", text(port, "externalIP"), text(port, "externalPort"), text(port, "internalPort"), text(port, "protocol"))
    });
    lines.collect::<Vec<_>>().join("  ")
}

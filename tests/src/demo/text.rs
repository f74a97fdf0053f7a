//! Words and colours of the demo's output.

use std::io::IsTerminal as _;

use serde_json::Value;

/// The annotations with a pod's addresses.
pub(super) const ADDRESS_KEYS: [&str; 2] =
    ["k8s.aliyun.com/allocated-eipAddress", "k8s.aliyun.com/allocated-dnat"];

/// Commands for a person who has watched the demo, to be pasted as they are.
pub(super) const TRY_NEXT: &str = r#"What to try next:

  A pod of your own, and its address:
    make up && . target/testbed/env
    kubectl run hello --image=nginx --annotations=k8s.aliyun.com/pod-with-eip=true
    kubectl wait pod hello --for=condition=Ready && kubectl get podeip hello

  A wrong annotation, refused at once:
    kubectl run wrong --image=nginx --annotations=k8s.aliyun.com/pod-with-eip=yes

  Its EIP taken away in the cloud's console: the gate closes, the EIP is bound again. Waygate looks at a pod that rests every
  few minutes, and at once when its object changes:
    eip=$(kubectl get podeip hello --output=jsonpath='{.spec.allocationID}')
    curl --json "{\"allocationId\": \"$eip\"}" "$CLOUD_ADMIN/console/unassociate-eip"
    for look in 1 2; do kubectl annotate --overwrite pod hello look=$look; sleep 2; done
    kubectl get events --field-selector=involvedObject.name=hello --watch

  `make down` ends it. What else a pod may ask for is in README.md."#;

pub(super) fn print_heading(text: &str) {
    println!("\n{}", colour_text(BOLD, text));
}

const BOLD: u8 = 1;
pub(super) const GREEN: u8 = 32;
pub(super) const YELLOW: u8 = 33;

/// Text in a colour, where it is a person who reads.
pub(super) fn colour_text(code: u8, text: &str) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// An annotation's value for people: the list of ports as `IP:PORT → PORT/PROTOCOL`.
pub(super) fn readable_address(value: &str) -> String {
    let Ok(Value::Array(ports)) = serde_json::from_str(value) else { return value.to_owned() };
    let text = |port: &Value, key: &str| {
        port[key].as_str().map_or_else(|| port[key].to_string(), str::to_owned)
    };
    let lines = ports.iter().map(|port| {
        format!(
            "{}:{} → {}/{}",
            text(port, "externalIP"),
            text(port, "externalPort"),
            text(port, "internalPort"),
            text(port, "protocol")
        )
    });
    lines.collect::<Vec<_>>().join("  ")
}

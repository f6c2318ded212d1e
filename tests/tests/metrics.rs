//! What `busctl metrics` serves, read by Prometheus' own tool.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use system_tests::{lab, require};

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    require!("promtool");
    let lab = lab!();
    let (bus, other) = (lab.arg("lan.bus"), lab.arg("other.bus"));
    let _host = lab.ready(["host", &bus, "10.0.0.1/24", "--name", "web"]);
    let _attach = lab.ready(["attach", &bus, &format!("bus:{other}")]);
    lab.run(["ping", &bus, "10.0.0.1", "--from", "10.0.0.2/24", "-c", "3", "-i", "0.01"])
        .succeeds();
    let socket = lab.arg("m.sock");
    let _metrics = lab.ready(["metrics", "--listen", &format!("unix:{socket}")]);

    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("\nbusctl_receive_frames_total{"), "{body}");

    let mut promtool = lab
        .command(system_tests::require::find("promtool").unwrap())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{body}");
}

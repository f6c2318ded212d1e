//! Who is on a bus and what it has counted: `show`, `list`, `top --once` and `metrics`, without a
//! registry.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{Lab, Running, frame};

/// Looks until it holds; counters are published ten times a second.
fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A bus with a host, and a second bus joined by a port.
fn with_host_and_port(lab: &Lab) -> (Running, Running) {
    let host = lab.ready("host ./lan.bus 10.0.0.1/24 --name web");
    drop(shmbus::Bus::open_or_create(lab.path("two.bus"), 0o600).unwrap());
    let attach = lab.ready("attach ./lan.bus bus:./two.bus");
    (host, attach)
}

fn state(lab: &Lab, words: &str) -> Value {
    lab.json(&format!("--state ./state {words}"))
}

fn row<'v>(rows: &'v Value, name: &str) -> &'v Value {
    let find = |row: &&Value| row["name"].as_str().is_some_and(|found| found.starts_with(name));
    rows.as_array().unwrap().iter().find(find).unwrap_or_else(|| panic!("no {name} in {rows}"))
}

#[test]
fn everything_on_a_bus_is_counted_without_a_registry() {
    let lab = Lab::new();
    let (host, attach) = with_host_and_port(&lab);
    lab.prints("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 3 -i 0.01");
    let counted = |key: &str| {
        let shown = lab.json("show ./lan.bus --json");
        row(&shown["members"], "web")[key].as_u64()
    };
    until("the host has counted", || {
        counted("rx_packets") >= Some(4) && counted("tx_packets") >= Some(4)
    });
    let shown = lab.prints("show ./lan.bus");
    assert!(shown.contains(" web pid ") && shown.contains("\t\t\tinput: "), "{shown}");
    // The port's station is among the members, and has counters, too.
    let shown = lab.json("show ./lan.bus --json");
    let port = shown["ports"][0]["name"].as_str().unwrap().to_owned();
    assert!(row(&shown["members"], &port)["rx_packets"].as_u64().is_some(), "{shown}");

    let brief = lab.prints("show ./lan.bus --brief");
    let lines: Vec<&str> = brief.lines().collect();
    assert_eq!(lines.len(), 3, "{brief}");
    assert!(lines[0].starts_with("./lan.bus ") && lines[0].contains("2 stations"), "{brief}");
    assert!(lines[1].trim_start().starts_with("web ") && lines[1].contains(" UP "), "{brief}");

    // Ends with a line of what was counted.
    host.signal(Signal::SIGTERM);
    let mut host = host;
    let mut said = String::new();
    host.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the host: input ") && said.matches('\n').count() == 1, "{said}");
    assert!(attach.interrupt().is_some());
}

#[test]
fn lists_and_top_show_who_is_on_a_bus() {
    let lab = Lab::new();
    let _both = with_host_and_port(&lab);
    let _named = lab.ready("host ./lan.bus 10.0.0.3/24");
    let path = lab.path("lan.bus").canonicalize().unwrap();
    let list = state(&lab, "list --json");
    let is_ours = |bus: &&Value| bus["path"].as_str() == path.to_str();
    let bus = list["buses"].as_array().unwrap().iter().find(is_ours).unwrap();
    assert!(bus["size"].as_u64() == Some(1 << 20) && bus["stations"].as_u64() == Some(3), "{bus}");
    // Named with verb and argument.
    row(&bus["members"], "busctl host ./lan.bus");
    let text = lab.prints("--state ./state list");
    assert!(text.contains("1M ") && text.contains("busctl host ./lan.bus"), "{text}");

    let top = state(&lab, "top --once --json");
    let bus = top["buses"].as_array().unwrap().iter().find(is_ours).unwrap();
    let web = row(&bus["on_it"], "web");
    assert_eq!((web["kind"].as_str(), web["link"].as_str()), (Some("station"), Some("up")));
    assert!(web["rx_pps"].is_number() && bus["pps"].is_number(), "{bus}");
    let is_port = |row: &&Value| row["kind"].as_str() == Some("port");
    assert_eq!(bus["on_it"].as_array().unwrap().iter().filter(is_port).count(), 1, "{bus}");
    assert_eq!(bus["on_it"].as_array().unwrap().len(), 3, "{bus}");
    let text = lab.prints("--state ./state top --once");
    assert!(text.contains("STATION OR PORT") && text.contains("\nweb "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    lab.fails("--state ./state top", 2, "there is no terminal to draw on; 'busctl top --once'");

    let tree = lab.prints("show ./lan.bus --graph");
    assert!(tree.contains("bus ./lan.bus (1M)") && tree.contains("web [station] "), "{tree}");
    let svg = lab.prints("show ./lan.bus --svg");
    assert!(svg.starts_with("<svg ") && svg.contains(">web</text>"), "{svg}");
    assert!(lab.prints("show ./lan.bus --mermaid").starts_with("graph LR\n"));
    assert!(lab.prints("show ./lan.bus --dot").starts_with("graph \"buses\" {\n"));
}

/// Asks for the metrics, and returns head and body.
fn get(mut stream: impl std::io::Read + std::io::Write, headers: &str) -> (String, String) {
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// The value of the first series with these texts in it.
fn series(body: &str, name: &str, label: &str) -> Option<u64> {
    let line = body.lines().find(|line| line.starts_with(name) && line.contains(label))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn metrics_are_served_also_beside_clients_that_hang() {
    let lab = Lab::new();
    let _both = with_host_and_port(&lab);
    let mut metrics = lab.start("--state ./state metrics --listen 127.0.0.1:0");
    assert_eq!(metrics.line(), "ready");
    let mut said = [0; 200];
    let stderr = metrics.child.stderr.as_mut().unwrap();
    let count = stderr.read(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said[..count]);
    let address = said.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    // These send nothing, or not all, and are not waited for.
    let mut hanging: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(&address).unwrap()).collect();
    hanging[0].write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
    lab.prints("ping ./lan.bus 10.0.0.1 --from 10.0.0.2/24 -c 3 -i 0.01");
    let read = |headers: &str| get(TcpStream::connect(&address).unwrap(), headers);
    until("the host's frames are in the metrics", || {
        let (_, body) = read("");
        series(&body, "busctl_receive_frames_total{", "station=\"web\"") >= Some(4)
    });
    let (head, body) = read("");
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(body.contains("# TYPE busctl_receive_frames_total counter\n"), "{body}");
    assert!(series(&body, "busctl_link_up{", "kind=\"bus\"").is_some(), "{body}");
    let (head, body) = read("Accept: application/openmetrics-text\r\n");
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("\n# EOF\n") && body.contains("# TYPE busctl_receive_frames counter\n"));
    drop(hanging);
    assert_eq!(metrics.interrupt(), Some(0));
}

#[test]
fn metrics_listen_where_they_are_told() {
    let lab = Lab::new();
    let _host = lab.ready("host ./lan.bus 10.0.0.1/24 --name web");
    let mut metrics = lab.start("--state ./state metrics --listen unix:./m.sock");
    assert_eq!(metrics.line(), "ready");
    let (head, body) = get(UnixStream::connect(lab.path("m.sock")).unwrap(), "");
    assert!(head.starts_with("HTTP/1.1 200 OK") && body.contains("station=\"web\""), "{body}");
    lab.fails(
        "--state ./state metrics --listen unix:./m.sock",
        2,
        "cannot listen on ./m.sock: another process uses it",
    );
    assert_eq!(metrics.interrupt(), Some(0));
    assert!(!lab.path("m.sock").exists());
    // A dead socket is replaced; another file is not.
    drop(std::os::unix::net::UnixListener::bind(lab.path("m.sock")).unwrap());
    let mut metrics = lab.start("--state ./state metrics --listen unix:./m.sock");
    assert_eq!(metrics.line(), "ready");
    assert_eq!(metrics.interrupt(), Some(0));
    lab.fails("--state ./state metrics --listen unix:./lan.bus", 2, "is no socket");
    lab.fails("--state ./state metrics --listen 9435", 2, "127.0.0.1:9435");
}

#[test]
fn counts_of_one_are_singular() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("one.pcap", [frame(b"x")]);
    let said = lab.prints("replay one.pcap ./lan.bus");
    assert!(said.starts_with("1 frame, "), "{said}");
}

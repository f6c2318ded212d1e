//! TAP ports. The peer is the kernel, which sends and receives through a packet socket. Each test
//! runs in a process with a network of its own, because a user namespace gives the right to make
//! interfaces.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender};

use super::{Bench, Cable, Kind, Peer, conforms};

/// Set in the process that has a network of its own.
const INSIDE: &str = "BUSCTL_TEST_HAS_A_NETWORK";

struct Kernel {
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
}

fn ip(words: &str) -> bool {
    Command::new("ip").args(words.split(' ')).status().is_ok_and(|status| status.success())
}

impl Kernel {
    fn new(state: &str) -> Self {
        // Without IPv6 the kernel sends nothing unasked.
        std::fs::write("/proc/sys/net/ipv6/conf/tap0/disable_ipv6", "1").expect("no IPv6");
        // The first call on a socket of an interface that is down fails.
        assert!(ip(&format!("link set tap0 mtu 4000 arp off {state}")));
        let interface =
            pnet_datalink::interfaces().into_iter().find(|interface| interface.name == "tap0");
        let config = Config {
            read_timeout: Some(Duration::ZERO),
            read_buffer_size: 1 << 16,
            ..Config::default()
        };
        match pnet_datalink::channel(&interface.expect("tap0"), config).expect("a packet socket") {
            Channel::Ethernet(sender, receiver) => Self { sender, receiver },
            _ => panic!("no Ethernet"),
        }
    }
}

impl Peer for Kernel {
    fn send(&mut self, frame: &[u8]) -> bool {
        self.sender.send_to(frame, None).is_some_and(|sent| sent.is_ok())
    }

    fn receive(&mut self, frames: &mut Vec<Vec<u8>>) {
        loop {
            match self.receiver.next() {
                Ok(frame) => frames.push(frame.to_vec()),
                Err(error) if error.kind() == ErrorKind::TimedOut => return,
                // The socket reports that the interface goes down.
                Err(error) => return eprintln!("packet socket: {error}"),
            }
        }
    }

    fn vanish(&mut self) {
        assert!(ip("link set tap0 down"));
    }

    fn come_back(&mut self) -> bool {
        assert!(ip("link set tap0 up"));
        true
    }

    fn keeps_what_it_does_not_read(&self) -> bool {
        false
    }
}

fn with(spec: &str) -> Cable {
    (spec.to_owned(), Box::new(|| Box::new(Kernel::new("up"))))
}

fn kind(_: &Path) -> Cable {
    with("tap:name=tap0")
}

fn plain(_: &Path) -> Cable {
    with("tap:name=tap0,offload=off")
}

fn down(_: &Path) -> Cable {
    ("tap:name=tap0".to_owned(), Box::new(|| Box::new(Kernel::new("down"))))
}

/// Runs a test in a process with a network of its own. Where none is available, the test is
/// skipped.
fn inside(test: fn(Kind), kind: Kind) {
    if std::env::var_os(INSIDE).is_some() {
        return test(kind);
    }
    let unshare = |command: &mut Command| {
        let done = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net"])
            .arg(command.get_program())
            .args(command.get_args())
            .env(INSIDE, "1")
            .output();
        done.map_or_else(
            |error| (false, error.to_string()),
            |done| {
                (
                    done.status.success(),
                    [done.stdout, done.stderr]
                        .map(|text| String::from_utf8_lossy(&text).into_owned())
                        .concat(),
                )
            },
        )
    };
    let (can, why) = unshare(Command::new("ip").args("tuntap add dev tap0 mode tap".split(' ')));
    if !can {
        let required = std::env::var("BUSCTL_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!required, "no TAP interface in a namespace, and BUSCTL_REQUIRE_PEERS=1: {why}");
        // Past the capture of the test runner: a skipped test must be visible.
        let _ =
            writeln!(std::io::stderr(), "skipped: no TAP interface in a namespace: {}", why.trim());
        return;
    }
    let this = std::env::current_exe().expect("a running program has a path");
    let thread = std::thread::current();
    let name = thread.name().expect("the runner names the thread after the test");
    let (passed, said) =
        unshare(Command::new(this).args([name, "--exact", "--nocapture", "--test-threads=1"]));
    assert!(passed && said.contains("1 passed"), "{said}");
}

conforms!(kind, inside);

mod without_offload {
    use super::super::{a_peer_may_die, long_frames_are_dropped_and_counted, order_is_kept};
    use super::{inside, plain};

    #[test]
    fn order_is_kept_too() {
        inside(order_is_kept, plain);
    }

    #[test]
    fn long_frames_are_dropped_and_counted_too() {
        inside(long_frames_are_dropped_and_counted, plain);
    }

    #[test]
    fn a_peer_may_die_too() {
        inside(a_peer_may_die, plain);
    }
}

#[test]
fn the_port_follows_the_interface() {
    inside(
        |down| {
            let mut bench = Bench::new(down);
            for up in [true, false, true, false] {
                for _ in 0..100 {
                    bench.turn();
                    assert_eq!(bench.port.is_up(), !up);
                }
                if up {
                    assert!(!bench.is_woken(Duration::from_millis(1)));
                    assert!(ip("link set tap0 up"));
                    assert!(bench.is_woken(super::WAIT_TIMEOUT));
                } else {
                    assert!(ip("link set tap0 down"));
                }
                bench.until("the port follows the interface", |bench| bench.port.is_up() == up);
            }
            assert!(ip("link delete tap0"));
            bench.until("the port is closed", |bench| bench.port.closed().is_some());
            assert!(!bench.port.is_up());
        },
        down,
    );
}

//! `busctl extcap`, called as Wireshark calls it.

use std::fs::{self, File};
use std::io::Read as _;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::{Lab, frame};

#[test]
fn interfaces_and_buses_are_devices_with_their_options() {
    let lab = Lab::new().with_bus();
    lab.prints("--state state create shmif3 mac=02:00:00:00:00:33");
    lab.prints("--state state linkstr shmif3 ./lan.bus");
    let bus = fs::canonicalize(lab.path("lan.bus")).unwrap().display().to_string();
    let host = lab.ready("host ./lan.bus 10.0.0.1/24 --name web --state state");
    let devices = lab.prints("extcap --state state --extcap-interfaces --extcap-version=4.4");
    assert!(devices.starts_with("extcap {version="), "{devices}");
    let interface =
        format!("interface {{value=shmif3}}{{display=shmif3 (02:00:00:00:00:33, {bus})}}");
    assert!(devices.contains(&interface), "{devices}");
    assert!(devices.contains(&format!("{{value={bus}}}{{display={bus} (web ")), "{devices}");
    assert!(devices.contains("{value=busctl}"), "{devices}");
    drop(host);

    let ethernet = "dlt {number=1}{name=EN10MB}{display=Ethernet}\n";
    assert_eq!(
        lab.prints("extcap --state state --extcap-interface shmif3 --extcap-dlts"),
        ethernet
    );
    let calls = |device: &str| {
        let options = lab
            .prints(&format!("extcap --state state --extcap-interface {device} --extcap-config"));
        let calls = options.lines().map(|line| {
            let call = line.split("{call=--").nth(1).unwrap();
            call.split('}').next().unwrap().to_owned()
        });
        calls.collect::<Vec<_>>()
    };
    assert_eq!(calls("shmif3"), ["history", "promiscuous", "snaplen"]);
    assert_eq!(calls(&bus), ["history", "snaplen"]);
    assert_eq!(calls("busctl"), ["bus", "history", "snaplen"]);
    lab.fails("extcap --state state --extcap-interface shmif9 --extcap-config", 2, "shmif9");
    lab.fails("extcap", 2, "say --install, --uninstall");
}

#[test]
fn a_capture_has_history_and_cut_frames_where_they_are_asked_for() {
    let lab = Lab::new().with_bus();
    lab.write_pcap("in.pcap", [frame(b"of the past"), frame(b"of the past, too")]);
    lab.prints("replay in.pcap ./lan.bus");
    mkfifo(&lab.path("fifo"), Mode::S_IRWXU).unwrap();
    let call = "extcap --extcap-interface ./lan.bus --capture --fifo fifo";
    let mut capture = lab.start(&format!("{call} --history --snaplen 20 --extcap-later 7"));
    let mut pipe = File::open(lab.path("fifo")).unwrap();
    let mut frames = vec![0; 24 + 2 * (16 + 20)];
    pipe.read_exact(&mut frames).unwrap();
    assert!(frames.ends_with(&frame(b"of the")));
    capture.signal(Signal::SIGTERM);
    assert_eq!(capture.child.wait().unwrap().code(), Some(0));

    // Without history, only what comes from now on.
    let mut capture = lab.start(call);
    let mut pipe = File::open(lab.path("fifo")).unwrap();
    let mut header = [0; 24];
    pipe.read_exact(&mut header).unwrap();
    lab.write_pcap("in.pcap", [frame(b"now")]);
    lab.prints("replay in.pcap ./lan.bus");
    let mut first = vec![0; 16 + 17];
    pipe.read_exact(&mut first).unwrap();
    assert!(first.ends_with(&frame(b"now")));
    drop(pipe);
    capture.signal(Signal::SIGTERM);
    assert_eq!(capture.child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_ends_although_its_pipe_is_not_read() {
    let lab = Lab::new().with_bus();
    mkfifo(&lab.path("fifo"), Mode::S_IRWXU).unwrap();
    let call = "extcap --extcap-interface ./lan.bus --capture --fifo fifo";
    let mut capture = lab.start(call);
    capture.until_it_catches_sigterm();
    capture.signal(Signal::SIGTERM);
    assert_eq!(capture.child.wait().unwrap().code(), Some(0));
    lab.fails("extcap --extcap-interface busctl --capture --fifo fifo", 2, "no bus");
}

#[test]
fn links_are_made_and_removed_and_files_left_alone() {
    let lab = Lab::new();
    let folder = lab.path("extcap");
    assert!(lab.prints("extcap --install --folder extcap").ends_with("busctl-extcap\n"));
    lab.prints("extcap --install --folder extcap");
    assert!(folder.join("busctl-extcap").is_symlink());
    lab.prints("extcap --uninstall --folder extcap");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    assert_eq!(lab.prints("extcap --uninstall --folder extcap"), "");
    fs::write(folder.join("busctl-extcap"), "a program of the user").unwrap();
    lab.fails("extcap --install --folder extcap", 2, "it is a file and no link");
    lab.fails("extcap --install", 2, "say --folder DIR");
}

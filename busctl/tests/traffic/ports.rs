//! `attach` with captures and other buses.

use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Lab, Running, frame, read_pcap};

fn frames(count: u32) -> Vec<Vec<u8>> {
    (0..count).map(|number| frame(&number.to_be_bytes())).collect()
}

impl Running {
    /// Waits for a line on stderr.
    fn complaint(&mut self) -> String {
        let mut line = String::new();
        let mut stderr = std::io::BufReader::with_capacity(1, self.child.stderr.as_mut().unwrap());
        stderr.read_line(&mut line).unwrap();
        line
    }

    /// Asks it to stop, and returns its exit code and all it said on stderr.
    fn last_words(mut self) -> (Option<i32>, String) {
        self.signal(Signal::SIGINT);
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

/// Waits until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_capture_is_played_and_what_others_send_is_written() {
    let lab = Lab::new();
    lab.write_pcap("in.pcap", frames(1_000));
    let listener = lab.ready("attach ./lan.bus pcap:out=seen.pcap");
    let mut player = lab.ready("attach ./lan.bus pcap:in=in.pcap,out=back.pcap,pps=20000");
    until("all were seen", || {
        fs::metadata(lab.path("seen.pcap")).is_ok_and(|file| file.len() == 24 + 1_000 * (16 + 18))
    });
    assert_eq!(player.complaint(), "busctl: in.pcap was played to its end: 1000 frames\n");
    assert_eq!(player.last_words(), (Some(0), String::new()));
    let (code, said) = listener.last_words();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert_eq!(lab.read_pcap("seen.pcap"), frames(1_000));
    assert!(lab.read_pcap("back.pcap").is_empty(), "what it plays it does not hear");
}

#[test]
fn captures_go_through_pipes() {
    let lab = Lab::new();
    lab.write_pcap("in.pcap", frames(3));
    let mut listener = lab.command("attach ./lan.bus pcap:out=-");
    let mut listener = listener.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // `ready` would spoil the capture.
    let mut ready = [0; 6];
    listener.stderr.as_mut().unwrap().read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");

    let mut player = lab.ready("attach ./lan.bus pcap:in=-");
    let capture = fs::read(lab.path("in.pcap")).unwrap();
    // Each frame is played when it comes, though the pipe stays open.
    let pipe = player.stdin.as_mut().unwrap();
    let mut heard = vec![0; capture.len()];
    let out = listener.stdout.as_mut().unwrap();
    let mut done = 0;
    for end in [24, 58, 92, 126] {
        pipe.write_all(&capture[done..end]).unwrap();
        out.read_exact(&mut heard[done..end]).unwrap();
        done = end;
    }
    fs::write(lab.path("heard.pcap"), heard).unwrap();
    assert_eq!(lab.read_pcap("heard.pcap"), frames(3));
    let (code, said) = player.last_words();
    assert_eq!((code, said.as_str()), (Some(0), ""));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(listener.id().cast_signed()), Signal::SIGINT)
        .unwrap();
    assert!(listener.wait().unwrap().success());
}

#[test]
fn a_full_disk_is_reported_and_the_others_go_on() {
    let lab = Lab::new();
    lab.write_pcap("in.pcap", frames(100));
    let mut listener = lab.ready("attach ./lan.bus pcap:out=/dev/full pcap:out=seen.pcap");
    let player = lab.ready("attach ./lan.bus pcap:in=in.pcap");
    until("the other port has all", || {
        fs::metadata(lab.path("seen.pcap")).is_ok_and(|file| file.len() == 24 + 100 * (16 + 18))
    });
    let said = listener.complaint();
    assert!(said.starts_with("busctl: cannot write to /dev/full: the disk is full"), "{said}");
    assert_eq!(listener.last_words(), (Some(0), String::new()));
    assert_eq!(player.last_words().0, Some(0));
}

#[test]
fn a_capture_that_ends_early_is_played_as_far_as_it_goes() {
    let lab = Lab::new();
    lab.write_pcap("in.pcap", [frames(2), vec![vec![0; 2_000], vec![0; 5]], frames(1)].concat());
    let capture = fs::read(lab.path("in.pcap")).unwrap();
    fs::write(lab.path("in.pcap"), &capture[..capture.len() - 1]).unwrap();
    let listener = lab.ready("attach ./lan.bus pcap:out=seen.pcap");
    let mut player = lab.ready("attach ./lan.bus pcap:in=in.pcap");
    until("two were seen", || {
        fs::metadata(lab.path("seen.pcap")).is_ok_and(|file| file.len() == 24 + 2 * (16 + 18))
    });
    assert_eq!(
        player.complaint(),
        "busctl: cannot read further in in.pcap: it is truncated at frame 5; 2 frames were played; 2 were left out \
         because the bus does not carry their length\n"
    );
    assert_eq!(player.last_words(), (Some(0), String::new()));
    drop(listener);
}

#[test]
fn two_buses_become_one_lan() {
    let lab = Lab::new();
    let _joint = lab.ready("attach ./a.bus bus:./b.bus");
    let _one = lab.ready("host ./a.bus 10.0.0.1/24");
    let _other = lab.ready("host ./b.bus 10.0.0.2/24");
    lab.busctl("ping ./b.bus 10.0.0.1 --from 10.0.0.9/24 -c 2 -i 0.1").assert().success();
    lab.busctl("ping ./a.bus 10.0.0.2 --from 10.0.0.9/24 -c 2 -i 0.1").assert().success();
}

#[test]
fn loops_are_refused_in_one_process_and_in_two() {
    let lab = Lab::new();
    lab.fails("attach ./a.bus bus:./a.bus", 2, "cannot join ./a.bus to itself (./a.bus)");
    lab.fails(
        "attach ./a.bus bus:./b.bus bus:././b.bus",
        2,
        "././b.bus is joined to ./a.bus twice",
    );
    let joint = lab.ready("attach ./a.bus bus:./b.bus bus:./c.bus");
    for (command, buses) in [
        ("attach ./a.bus bus:./b.bus", "./a.bus and ./b.bus"),
        ("attach ./b.bus bus:./a.bus", "./b.bus and ./a.bus"),
        ("attach ./c.bus bus:./b.bus", "./c.bus and ./b.bus"),
    ] {
        lab.fails(
            command,
            2,
            &format!("joins {buses} already: frames would go round for ever; end it first"),
        );
    }
    // A fourth is no loop, and neither is the same when the first has ended.
    let more = lab.ready("attach ./c.bus bus:./d.bus");
    assert_eq!(joint.interrupt(), Some(0));
    let _again = lab.ready("attach ./b.bus bus:./a.bus");
    drop(more);
}

#[test]
fn what_is_wrong_with_a_port_is_said() {
    let lab = Lab::new();
    lab.write_pcap("some.pcap", frames(1));
    for (port, why) in [
        ("pcap:in=none.pcap", "cannot play none.pcap: no such file or directory"),
        ("pcap:in=.", "cannot play .: it is a folder"),
        ("pcap:out=.", "cannot write to .: it is a folder"),
        ("pcap:out=no/where", "cannot write to no/where: no such file or directory"),
        ("pcap:in=Cargo", "cannot play Cargo: it is not a capture"),
        ("pcap:file=some.pcap", "it exists; in=some.pcap plays it, out=some.pcap overwrites it"),
        ("pcap:in=some.pcap,out=./some.pcap", "some.pcap is to be played and to be written"),
        ("pcap:in=- pcap:in=-", "two ports cannot share stdin"),
        ("pcap:out=- pcap:out=-", "two ports cannot share stdout"),
        ("pcap:fil=some.pcap", "a pcap port has no key 'fil' (did you mean 'file'?)"),
        ("pcap", "a port is written KIND:key=value"),
        ("pcpa:in=some.pcap", "no kind of port called 'pcpa' (did you mean 'pcap'?)"),
        ("bus:b.bus", "say bus:./b.bus"),
        ("bus:./some.pcap", "is not a bus"),
    ] {
        fs::write(lab.path("Cargo"), "no capture at all").unwrap();
        let command = format!("attach ./lan.bus {port}");
        let output = lab.command(&command).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(said.to_lowercase().contains(&why.to_lowercase()), "{command}: {said}");
        assert_eq!(said.matches('\n').count(), 1, "{said}");
        assert!(!lab.path("lan.bus").exists(), "{command} has made a bus");
        assert_eq!(read_pcap(&lab.path("some.pcap")), frames(1), "{command} has changed a capture");
    }
}

#[test]
fn a_port_that_learns_forwards_only_what_its_peer_needs() {
    let lab = Lab::new();
    let _node = lab.ready("attach ./a.bus bus:./b.bus,learn=on bus:./c.bus");
    let station = |bus: &str| {
        let bus = shmbus::Bus::open(lab.path(bus)).unwrap();
        shmbus::Station::join(bus, shmbus::StationOptions::new().promiscuous(true)).unwrap()
    };
    let (mut here, mut learnt, mut flooded) =
        (station("a.bus"), station("b.bus"), station("c.bus"));
    let [everybody, alice, bob, carol] = [0xff, 2, 4, 6];
    let frame = |to: u8, from: u8| [[to; 6], [from; 6], [0x88, 0xb5, 0, 0, 0, 0]].concat();
    // What comes to a station, up to a certain frame.
    let until_heard = |station: &mut shmbus::Station, last: &[u8]| {
        let (mut heard, mut burst) = (Vec::new(), shmbus::Burst::new(64));
        until("it is heard", || {
            station.recv_burst(&mut burst);
            heard.extend(burst.iter().map(|frame| frame.bytes.to_vec()));
            heard.iter().any(|frame| frame == last)
        });
        heard
    };

    here.send(&frame(everybody, alice)).unwrap();
    until_heard(&mut learnt, &frame(everybody, alice));
    until_heard(&mut flooded, &frame(everybody, alice));
    // The switch has learned Alice on this port, and Carol on none.
    here.send_burst([frame(alice, bob), frame(carol, bob)]).unwrap();
    assert_eq!(until_heard(&mut learnt, &frame(carol, bob)), [frame(carol, bob)]);
    assert_eq!(
        until_heard(&mut flooded, &frame(carol, bob)),
        [frame(alice, bob), frame(carol, bob)]
    );
    // Alice moves to behind the port.
    learnt.send(&frame(everybody, alice)).unwrap();
    until_heard(&mut here, &frame(everybody, alice));
    here.send_burst([frame(bob, carol), frame(alice, bob)]).unwrap();
    assert_eq!(until_heard(&mut learnt, &frame(alice, bob)), [frame(alice, bob)]);
}

#[test]
fn what_a_port_cannot_do_is_said_when_it_is_asked_for() {
    let lab = Lab::new();
    let mut node = lab.ready("attach ./lan.bus memif:id=0,socket=./m.sock,zero-copy=yes");
    let said = node.complaint();
    assert!(
        said.starts_with("busctl: memif ./m.sock id 0: zero-copy=yes changes nothing: "),
        "{said}"
    );
    assert_eq!(node.last_words(), (Some(0), String::new()));
}

/// A node tries again what it cannot run.
#[test]
fn it_is_said_once_however_often_the_port_is_opened() {
    let lab = Lab::new();
    let mut node = lab.ready("--state ./state node");
    lab.prints("--state ./state socket add 1 ./m.sock");
    lab.prints("--state ./state create memif1/0 zero-copy=yes");
    lab.prints("--state ./state linkstr memif1/0 ./lan.bus");
    fs::remove_file(lab.path("lan.bus")).unwrap();
    fs::create_dir(lab.path("lan.bus")).unwrap();
    lab.busctl("--state ./state up memif1/0").assert().code(1);
    assert!(node.complaint().contains("zero-copy=yes changes nothing"));
    assert!(node.complaint().contains("it is a directory"));
    // The next trouble comes with the next attempt.
    fs::remove_dir(lab.path("lan.bus")).unwrap();
    fs::write(lab.path("lan.bus"), "no bus").unwrap();
    let said = node.complaint();
    assert!(said.contains("lan.bus") && !said.contains("zero-copy"), "{said}");
    assert_eq!(node.last_words(), (Some(0), String::new()));
}

/// Who holds the lock for long is said; a lock that was free in between is not held for long.
#[test]
fn two_locks_are_not_taken_for_one() {
    let lab = Lab::new();
    lab.write_pcap("one.pcap", frames(1));
    lab.prints("--state ./state create shmif0");
    lab.prints("--state ./state linkstr shmif0 ./lan.bus");
    lab.prints("--state ./state up shmif0");
    let node = lab.ready("--state ./state attach shmif0 bus:./far.bus");
    // As a rump kernel does.
    let lock = |held: u32| {
        let bus = fs::File::options().write(true).open(lab.path("lan.bus")).unwrap();
        bus.write_all_at(&held.to_ne_bytes(), 24).unwrap();
    };
    for dropped in 1..=2 {
        lock(1);
        lab.prints("replay one.pcap ./far.bus");
        until("it was locked out", || {
            lab.json("--state ./state show shmif0 --json")["tx_dropped"] == dropped
        });
        lock(0);
        // Longer than it takes to be worth a line.
        std::thread::sleep(Duration::from_millis(2_200));
    }
    assert_eq!(node.last_words(), (Some(0), String::new()));
}

//! Programs in C on a bus, compiled here: `libshmbus` does what its header says, also under
//! valgrind.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use shmbus::{Burst, Bus, Station, StationOptions, Tap};
use system_tests::{Lab, Process, WAIT_TIMEOUT, built, frames, lab, require};

/// Returns the path of a file of the crate `shmbus-capi`.
fn source(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the checkout").join("shmbus/capi").join(name)
}

/// Compiles a program with the header, and links it with a library of this build.
fn compile(lab: &Lab, program: &Path, library: &str) -> PathBuf {
    let library = lab.reach(&built::library(library));
    let compiled = lab.path(program.file_stem().and_then(|name| name.to_str()).expect("a name"));
    let mut cc = Command::new("cc");
    cc.args("-std=gnu11 -Wall -Wextra -Werror -O1 -g".split(' ')).arg("-I").arg(source("include"));
    cc.arg(program).arg("-o").arg(&compiled).arg(&library);
    cc.arg(format!("-Wl,-rpath,{}", library.parent().expect("a folder").display()));
    cc.args(["-lm", "-lpthread"]);
    let finished = cc.output().expect("cc runs");
    assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stderr));
    compiled
}

/// Returns the programs in C that a text shows.
fn programs_in(text: &str) -> Vec<&str> {
    let fences = text.split("```c\n").skip(1).map(|rest| rest.split("```").next().unwrap_or(rest));
    fences.filter(|program| program.contains("int main(")).collect()
}

/// Runs the program that calls everything, in a folder of its own.
fn call_everything(lab: &Lab, program: &Path, valgrind: &[&str]) {
    let folder = lab.tmp().join(if valgrind.is_empty() { "plain" } else { "checked" });
    std::fs::create_dir(&folder).expect("a folder");
    system_tests::privilege::hand_over(&folder);
    let mut command = match valgrind {
        [] => lab.command(program),
        [valgrind, flags @ ..] => {
            let mut command = lab.command(valgrind);
            command.args(flags).arg(program);
            command
        }
    };
    let finished = lab.run_program(command.arg(&folder));
    assert_eq!(finished.succeeds(), "ok\n", "{finished}");
    let left = Lab::list(&folder);
    assert!(left.iter().all(|name| !name.starts_with('.')), "what belonged to stations: {left:?}");
}

#[test]
fn every_call_and_every_error_of_the_header() {
    require!("cc");
    let lab = lab!();
    call_everything(&lab, &compile(&lab, &source("tests/every_call.c"), "libshmbus_capi.so"), &[]);
}

#[test]
fn every_call_under_valgrind() {
    require!("cc", "valgrind");
    let lab = lab!();
    let program = compile(&lab, &source("tests/every_call.c"), "libshmbus_capi.so");
    // The last flag: a handler of SIGBUS returns to the access that failed, with all registers.
    let valgrind = "valgrind --quiet --error-exitcode=99 --leak-check=full \
                    --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
                    --vex-iropt-register-updates=allregs-at-mem-access";
    call_everything(&lab, &program, &valgrind.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn the_header_is_one_for_cpp_too() {
    require!("c++");
    let mut compiler = Command::new("c++");
    compiler.args("-Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c++".split(' '));
    let checked = compiler.arg(source("include/shmbus.h")).output().expect("it runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The guide's program puts a frame on a bus.
#[test]
fn the_guides_program_runs() {
    require!("cc");
    let lab = lab!();
    let programs = programs_in(include_str!("../../GUIDE.md"));
    assert_eq!(programs.len(), 1);
    // A bus of the test's own, in the place of the reader's.
    let bus = lab.arg("lan.bus");
    let program = programs[0].replace("/dev/shm/lan", &bus);
    let program = compile(&lab, &lab.write("guide.c", program.as_bytes()), "libshmbus_capi.so");
    let _host = lab.ready(["host", &bus, "10.0.0.1/24"]);
    let mut tap = Tap::new(Bus::open_read_only(&bus).expect("a bus")).expect("a tap");
    assert_eq!(lab.run_program(&mut lab.command(program)).succeeds(), "");
    let mut burst = Burst::new(1);
    while tap.recv_burst(&mut burst) > 0 {
        let frame = burst.get(0).expect("one").bytes;
        if frame[12..14] == [0x88, 0xb5] {
            assert_eq!((frame.len(), &frame[..6]), (60, &[0xff; 6][..]));
            return;
        }
    }
    panic!("its frame is not on the bus");
}

/// The example, linked statically, and every length of frames.
#[test]
fn the_example_sends_every_frame_back() {
    /// So many are under way at once: they fit on the ring.
    const WINDOW: usize = 100;
    require!("cc");
    let lab = lab!();
    let program = compile(&lab, &source("examples/reflector.c"), "libshmbus_capi.a");
    let bus = lab.path("lan.bus");
    let mut reflector = Process::spawn("reflector", lab.command(program).arg(&bus));
    let line = reflector.wait_for(0, WAIT_TIMEOUT, "its address", |line| line.text.len() == 17);
    let address: macaddr::MacAddr6 = line.parse().expect("an address");
    let mut station =
        Station::join(Bus::open(&bus).expect("a bus"), StationOptions::new()).expect("joined");
    assert_eq!(station.bus().members()[0].name, "reflector");

    let request = |len: usize| {
        let mut frame = frames::patterned(len, 1);
        frame[..6].copy_from_slice(address.as_bytes());
        frame[6..12].copy_from_slice(station.mac().as_bytes());
        frame
    };
    let requests: Vec<_> = (14..=1_514).map(request).collect();
    let begin = Instant::now();
    let (mut burst, mut sent, mut back) = (Burst::new(64), 0, 0);
    while back < requests.len() {
        let next = requests.len().min(back + WINDOW);
        station.send_burst(&requests[sent..next]).expect("sent");
        sent = next;
        assert!(begin.elapsed() < WAIT_TIMEOUT, "{back} of {sent} came back");
        station.wait(Some(Duration::from_millis(100))).expect("watched");
        station.recv_burst(&mut burst);
        for reflected in &burst {
            let expected = &requests[back];
            assert_eq!(reflected.bytes[..6], expected[6..12]);
            assert_eq!(reflected.bytes[6..12], expected[..6]);
            assert_eq!(reflected.bytes[12..], expected[12..]);
            back += 1;
        }
    }
    drop(station);
    // It ends when it is typed to, and leaves the bus alone.
    reflector.type_line("");
    assert_eq!(reflector.finish(WAIT_TIMEOUT).stderr, "");
    assert_eq!(Bus::open(&bus).expect("a bus").stations().expect("counted"), 0);
    assert!(!Lab::list(bus.parent().expect("a folder")).contains(&".lan.bus.wake".to_owned()));
}

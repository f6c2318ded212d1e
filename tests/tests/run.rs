//! `busctl run`: commands in network namespaces on a bus, without privileges.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use system_tests::proc_files::children;
use system_tests::{Lab, Process, WAIT_TIMEOUT, lab, namespace, require, wait};

/// Starts a command in a namespace on the bus `lan.bus`, and waits until it prints `inside`.
fn inside(lab: &Lab, arguments: &[&str], script: &str) -> Process {
    let process = lab.spawn(words(lab, arguments, script));
    process.wait_for_line("inside");
    process
}

/// Returns the arguments of `busctl` for a script of `sh` on the bus `lan.bus`.
fn words(lab: &Lab, arguments: &[&str], script: &str) -> Vec<String> {
    let bus = lab.arg("lan.bus");
    let words = ["run", &bus].into_iter().chain(arguments.iter().copied());
    words.chain(["--", "sh", "-c", script]).map(str::to_owned).collect()
}

#[test]
fn two_commands_reach_each_other_and_see_names_of_their_own() {
    require!("ping");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let _alice = inside(
        &lab,
        &["10.0.0.1/24", "fd00::1/64", "--mac", "02:00:00:00:00:07", "--mtu", "1400"],
        "echo inside; exec sleep 1000",
    );
    let before = fs::read("/etc/hosts").unwrap_or_default();
    let bob = ["10.0.0.2/24", "fd00::2/64", "--hostname", "bob", "--dns", "10.0.0.53"];
    let pings = "ping -c 1 -W 5 10.0.0.1 && ping -c 1 -W 5 fd00::1 && ip neighbor && hostname && \
                 cat /etc/resolv.conf && getent hosts bob && ip link show eth0";
    let finished = lab.run(words(&lab, &bob, pings));
    let said = finished.succeeds();
    for words in ["02:00:00:00:00:07", "\nbob\n", "nameserver 10.0.0.53\n", "fd00::2 ", "mtu 9202"]
    {
        assert!(said.contains(words), "{words:?}: {finished}");
    }
    assert_eq!(fs::read("/etc/hosts").unwrap_or_default(), before);
    let show = lab.show(&lab.arg("lan.bus"));
    assert_eq!(show["size"].as_u64(), Some(16 << 20), "{show}");
    // A host on the bus and the command reach each other as well.
    let ping = ["ping", &lab.arg("lan.bus"), "10.0.0.1", "--from", "10.0.0.9/24", "-c", "1"];
    lab.run(ping).succeeds();
}

#[test]
fn name_servers_need_no_resolv_conf_on_the_system() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    // A system whose /etc has few files, of which each kind is to stay.
    let script = "mount -t tmpfs none /etc && cd /etc && echo kept > hosts && mkdir -p sub && \
                  echo inner > sub/file && echo base > base && ln -s base link && \
                  ln -s ../run/nowhere resolv.conf && exec \"$0\" \"$@\"";
    let mut command = lab.command("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command.arg(lab.program()).args(["run", &bus, "10.0.0.2/24", "--dns", "10.0.0.53"]);
    let files = "cat /etc/resolv.conf /etc/hosts /etc/sub/file /etc/link; ls /etc";
    let finished = lab.run_program(command.args(["--", "sh", "-c", files]));
    let said = finished.succeeds();
    assert_eq!(
        said, "nameserver 10.0.0.53\nkept\ninner\nbase\nbase\nhosts\nlink\nresolv.conf\nsub\n",
        "{finished}"
    );
}

#[test]
fn a_dhcp_server_and_a_client_are_one_line_each() {
    require!("dnsmasq", "busybox");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let (bus, memif) = (lab.arg("lan.bus"), format!("socket={}", lab.arg("m.sock")));
    let server = ["run", &bus, "10.0.0.1/24", "--", "dnsmasq", "--no-daemon", "--port=0"];
    let range = ["--conf-file=/dev/null", "--leasefile-ro", "--dhcp-range=10.0.0.100,10.0.0.150"];
    let server = lab.spawn(server.iter().chain(&range));
    server.wait_for_line("IP range 10.0.0.100");
    let client = ["run", &bus, "--", "busybox", "udhcpc", "-i", "eth0", "-f", "-q", "-n"];
    let finished = lab.run(client.iter().chain(&["-s", "/bin/true"]));
    assert!(finished.status.success(), "{finished}");
    let said = format!("{finished}");
    assert!(
        said.contains("lease of 10.0.0.1") && said.contains("obtained from 10.0.0.1"),
        "{said}"
    );
    // So does a host that is plugged into a memif port of the bus.
    let _port = lab.ready(["attach", &bus, &format!("memif:role=server,{memif}")]);
    let host = lab.spawn(["host", &format!("memif:role=client,{memif}"), "--dhcp"]);
    host.wait_for_line("is leased from 10.0.0.1");
}

#[test]
fn routers_find_each_other_by_ospf() {
    require!("bird", "ping");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let (lan, far) = (lab.arg("lan.bus"), lab.arg("far.bus"));
    let config = |id: &str| {
        let path = lab.arg(&format!("{id}.conf"));
        let text = format!(
            "router id {id}; protocol device {{}} protocol kernel {{ ipv4 {{ export all; }}; }}\n\
             protocol ospf v2 {{ ipv4 {{ import all; }}; area 0 {{ interface \"eth*\" {{\n\
             type ptp; hello 1; dead 4; }}; }}; }}\n"
        );
        fs::write(&path, text).expect("a file");
        ["bird", "-f", "-c", &path, "-s", &lab.arg(&format!("{id}.ctl"))].join(" ")
    };
    let both = format!("{lan},{far}");
    let first = ["run", &both, "10.0.1.1/24", "10.0.2.1/24", "--forward", "--", "sh", "-c"];
    let first =
        lab.spawn(first.into_iter().chain([&*format!("echo inside; exec {}", config("10.0.1.1"))]));
    first.wait_for_line("inside");
    let script = format!(
        "{} & until ip route | grep '10.0.2.0/24 via 10.0.1.1'; do sleep 0.1; done; \
         ping -c 1 -W 5 10.0.2.1",
        config("10.0.1.2")
    );
    let second = lab.run(["run", &lan, "10.0.1.2/24", "--", "sh", "-c", &script]);
    assert!(second.succeeds().contains("1 received"), "{second}");
}

#[test]
fn a_small_bus_can_have_our_own_format() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    for (flags, format, words) in [
        (&["--size", "1M", "--own-format"][..], "own", "lan.bus: bus of our own format, version 3"),
        (&["--size", "1M"], "shmif", "lan.bus: shmif bus, version 3, 1048576 bytes"),
    ] {
        let run = [&["run", &bus, "10.0.0.2/24"], flags, &["--", "true"]].concat();
        lab.run(run).succeeds();
        assert_eq!(lab.show(&bus)["format"], format);
        let shown = lab.run(["show", &bus]);
        assert!(shown.succeeds().contains(words), "{shown}");
        fs::remove_file(&bus).expect("the bus");
    }
}

#[test]
fn a_command_with_two_buses_is_a_router() {
    require!("ping");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let (lan, far) = (lab.arg("lan.bus"), lab.arg("far.bus"));
    let both = format!("{lan},{far}");
    let script = "echo inside; exec sleep 1000";
    let router = ["run", &both, "10.0.1.1/24", "fd01::1/64", "10.0.2.1/24", "fd02::1/64"];
    let router = lab.spawn(router.iter().chain(&["--forward", "--", "sh", "-c", script]));
    router.wait_for_line("inside");
    let far = ["run", &far, "10.0.2.9/24", "fd02::9/64", "--gateway", "fd02::1"];
    let route = ["--route", "10.0.1.0/24=10.0.2.1", "--", "sh", "-c", script];
    let far = lab.spawn(far.iter().chain(&route));
    far.wait_for_line("inside");
    let near = ["10.0.1.9/24", "fd01::9/64", "--gateway", "10.0.1.1", "--gateway", "fd01::1"];
    let pings = "ping -c 1 -W 5 10.0.2.9 && ping -c 1 -W 5 fd02::9";
    let finished = lab.run(words(&lab, &near, pings));
    assert_eq!(finished.succeeds().matches("ttl=63").count(), 2, "{finished}");
}

#[test]
fn the_status_is_that_of_the_command() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let code = |script: &str| lab.run(words(&lab, &[], script)).status.code();
    assert_eq!(code("exit 0"), Some(0));
    assert_eq!(code("exit 7"), Some(7));
    assert_eq!(code("kill -KILL $$"), Some(137));
    let bus = lab.arg("lan.bus");
    let missing = lab.run(["run", &bus, "--", "/no/such"]);
    missing.fails_with(127, &["cannot run /no/such", "No such file"]);
    lab.run(["run", &bus, "--", "/etc"]).fails_with(126, &["cannot run /etc"]);
    // The command's own standard streams.
    let mut echo = lab.spawn(["run", &bus, "--", "sh", "-c", "read word; echo got $word >&2"]);
    echo.type_line("hello");
    let finished = echo.finish(WAIT_TIMEOUT);
    assert_eq!((finished.succeeds(), finished.stderr.as_str()), ("", "got hello\n"));
    // Without a command there is a shell.
    let mut shell = lab.busctl(["run", &bus]);
    shell.env("SHELL", "/bin/sh");
    let mut shell = Process::spawn("a shell", &mut shell);
    shell.type_line("exit 5");
    assert_eq!(shell.finish(WAIT_TIMEOUT).status.code(), Some(5));
    // The user's own id.
    let id = |flags: &[&str]| lab.run(words(&lab, flags, "id -u")).succeeds().trim().to_owned();
    assert_eq!(id(&[]), "0");
    let own = fs::metadata(lab.tmp()).expect("a folder of the user").uid();
    assert_eq!(id(&["--user"]), own.to_string());
}

#[test]
fn signals_are_for_the_command() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    for (signal, name) in [(Signal::SIGTERM, "TERM"), (Signal::SIGUSR1, "USR1")] {
        let script = format!(
            "trap 'echo got {name}; exit 9' {name}; echo inside; while :; do sleep 0.05; done"
        );
        // Also where logs have started a thread before.
        for flags in [&[][..], &["-v"]] {
            let process = inside(&lab, flags, &script);
            process.signal(signal);
            let finished = process.finish(WAIT_TIMEOUT);
            assert_eq!(finished.status.code(), Some(9), "{finished}");
            assert!(finished.stdout.contains(&format!("got {name}")), "{finished}");
        }
    }
    let process = inside(&lab, &[], "echo inside; exec sleep 1000");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.finish(WAIT_TIMEOUT).status.code(), Some(128 + 15));
}

/// `script`(1) is the terminal, and what is typed into it are keys.
#[test]
fn a_terminal_has_job_control() {
    require!("script", "bash");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let mut command = lab.command("script");
    // A program that a script has started in the background ignores ^C, and so does what it starts.
    let shell = "exec env --default-signal=INT bash --norc -i";
    command.env("SHELL", "/bin/bash").args(["-qefc", shell, "/dev/null"]);
    let mut terminal = Process::spawn("script", &mut command);
    let mut type_and_wait = |typed: &str, pattern: &str| {
        let mark = terminal.mark();
        terminal.type_line(typed);
        terminal.wait_after(mark, pattern);
    };
    // The terminal echoes what is typed, so that no word waited for is typed in one piece.
    let program = lab.program().display().to_string();
    let gate = lab.arg("gate");
    let command = format!("echo be''gun; until [ -e {gate} ]; do sleep 0.05; done; echo the e''nd");
    type_and_wait(&format!("{program} run {bus} -- sh -c \"{command}; exit 5\""), "begun");
    type_and_wait("\x1a", "Stopped");
    // It ends in the background, and leaves the terminal to the shell.
    type_and_wait("bg", "&");
    type_and_wait(&format!("touch {gate}"), "the end");
    type_and_wait("wait; echo a''live", "alive");

    // Without a command it is a shell, which has jobs of its own.
    type_and_wait(&format!("{program} run {bus} --hostname inside"), "--hostname");
    type_and_wait("echo pid''=$$", "pid=2");
    // Without a child: while bash waits for one, it leaves ^C to that.
    let job = "trap 'echo re''sumed' CONT; echo be''gun; while :; do :; done";
    type_and_wait(&format!("bash -c \"{job}\""), "begun");
    type_and_wait("\x1a", "Stopped");
    type_and_wait("fg; echo job''=$?", "resumed");
    type_and_wait("\x03", "^C");
    type_and_wait("echo size''=$(stty size)", "size=");
    type_and_wait("exit 7", "exit");
    type_and_wait("echo status''=$?", "status=7");
}

/// The processes inside log nothing, and CMD has the variable.
#[test]
fn logs_by_the_environment_are_possible() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let mut command = lab.busctl(words(&lab, &[], "echo inside; echo log $BUSCTL_LOG"));
    let finished = lab.run_program(command.env("BUSCTL_LOG", "info"));
    assert!(finished.succeeds().contains("log info"), "{finished}");
}

#[test]
fn all_parts_end_with_any_of_them() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    for victim in 0..3 {
        let script = "setsid sleep 1000 & sleep 1001 & echo inside; exec sleep 1002";
        let process = inside(&lab, &["10.0.0.1/24"], script);
        let [init] = children(process.id())[..] else { panic!("one process inside") };
        let command = wait::poll(WAIT_TIMEOUT, || children(init).first().copied());
        let (command, _) = command.expect("a command");
        let network = fs::read_link(format!("/proc/{init}/ns/net")).expect("its network");
        let parts = [process.id(), init, command];
        let part = Pid::from_raw(i32::try_from(parts[victim]).expect("a pid"));
        kill(part, Signal::SIGKILL).expect("it lives");
        let finished = process.finish(WAIT_TIMEOUT);
        let expected = if victim == 0 { None } else { Some(137) };
        assert_eq!(finished.status.code(), expected, "part {victim}: {finished}");
        wait::until("no process is in the namespace", WAIT_TIMEOUT, || {
            let processes = fs::read_dir("/proc").expect("/proc").flatten();
            processes.into_iter().all(|process| {
                let its = fs::read_link(process.path().join("ns/net"));
                its.ok().as_ref() != Some(&network)
            })
        });
    }
    // What the command leaves in the background ends with it.
    lab.run(words(&lab, &[], "setsid sleep 1000 & exit 0")).succeeds();
}

#[test]
fn a_namespace_that_exists_gets_another_interface() {
    require!("ping");
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let first = inside(&lab, &["10.0.0.1/24"], "echo inside; exec sleep 1000");
    let [init] = children(first.id())[..] else { panic!("one process inside") };
    let command = wait::poll(WAIT_TIMEOUT, || children(init).first().copied());
    let pid = command.expect("a command").0.to_string();
    let other = lab.arg("other.bus");
    let _host = lab.ready(["host", &other, "10.0.7.2/24"]);
    let look = "ip -brief address && ping -c 1 -W 5 10.0.7.2";
    let joined =
        ["run", &other, "10.0.7.1/24", "--pid", &pid, "--", "sh", "-c", look].map(str::to_owned);
    let finished = lab.run(joined);
    let said = finished.succeeds();
    assert!(said.contains("10.0.0.1/24") && said.contains("eth1"), "{finished}");
    // The interface is gone with the command.
    let links = lab.run(["run", &other, "--pid", &pid, "--", "ip", "-brief", "link"]);
    assert_eq!(links.succeeds().matches("eth").count(), 2, "{links}");
    lab.run(["run", &other, "--netns", "no-such-name", "--", "true"])
        .fails_with(2, &["no network namespace no-such-name"]);
    lab.run(["run", &other, "--pid", "999999999", "--", "true"]).fails_with(2, &["999999999"]);
}

#[test]
fn where_namespaces_are_denied_it_says_why_and_what_works() {
    if !namespace::available() {
        return;
    }
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    let denied = |setting: &str| {
        let script = "echo 0 > /proc/sys/user/$1 && exec \"$0\" run \"$2\" -- true";
        let mut command = lab.command("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", script]);
        command.arg(lab.program()).args([setting, &bus]);
        lab.run_program(&mut command)
    };
    for setting in ["max_user_namespaces", "max_net_namespaces"] {
        let why = format!("user.{setting} is 0");
        denied(setting).fails_with(2, &[&why, "busctl host", "socket:"]);
    }
    assert!(!lab.path("lan.bus").exists(), "no bus is made for nothing");
}

#[test]
fn arguments_that_do_not_fit_change_nothing() {
    let lab = lab!();
    let bus = lab.arg("lan.bus");
    for (arguments, words) in [
        (&["10.0.0.1"][..], "such as 10.0.0.1/24"),
        (&["eth1=10.0.0.1/24"], "there is no eth1"),
        (&["--route", "10.0.0.0/8"], "NET=GW"),
        (&["--mtu", "70000"], "an MTU is 68 to"),
        (&["--mac", "03:00:00:00:00:01"], "03:00:00:00:00:01"),
        (&["--hostname", "a b"], "host name"),
        (&["--user", "--pid", "1"], "cannot be used with"),
    ] {
        let all = ["run", &bus].into_iter().chain(arguments.iter().copied());
        lab.run(all.chain(["--", "true"])).fails_with(2, &[words]);
    }
    assert!(!lab.path("lan.bus").exists());
}

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{Source, read_file};
use crate::Plan;
use crate::plan::{Action, Kind, Ready, Restart};

fn plan(text: &str) -> Plan {
    Plan::from_toml(text, &Source::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(text: &str) -> Vec<String> {
    let problems = Plan::from_toml(text, &Source::new()).expect_err("something wrong").list;
    problems.iter().map(ToString::to_string).collect()
}

fn addresses(plan: &Plan) -> Vec<String> {
    let interfaces =
        plan.nodes.iter().flat_map(|node| node.interfaces.iter().map(move |i| (node, i)));
    interfaces
        .map(|(node, interface)| {
            let nets: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
            format!("{} {} {} {}", node.name, interface.name, interface.lan, nets.join(" "))
                .trim_end()
                .to_owned()
        })
        .collect()
}

#[test]
fn an_empty_file_is_an_empty_lab() {
    let empty = plan("");
    assert_eq!(empty.name, "lab");
    assert!(empty.nodes.is_empty() && empty.lans.is_empty() && empty.checks.is_empty());
}

#[test]
fn interfaces_come_from_lans_tables_and_ends() {
    let plan = plan(
        r#"
        [lan.office]
        prefixes = ["10.1.0.0/24", "fd01::/64"]
        [link.r1-r2]
        ends = ["r1", "r2:wan0"]
        prefix = "10.2.0.0/31"
        [node.r1]
        lans = "office"
        [node.r2]
        address = "10.1.0.77"
        [[node.r2.interface]]
        lan = "office"
        name = "lan0"
        mac = "02:00:00:00:00:07"
        delay = "10ms"
        in.loss = "1%"
        vlan = 7
        [node.h]
        kind = "host"
        count = 2
        lans = ["office"]
        "#,
    );
    assert_eq!(
        addresses(&plan),
        [
            "r1 eth0 office 10.1.0.1/24 fd01::1/64",
            "r1 eth1 r1-r2 10.2.0.0/31",
            "r2 lan0 office 10.1.0.77/24 fd01::2/64",
            "r2 wan0 r1-r2 10.2.0.1/31",
            "h1 eth0 office 10.1.0.2/24 fd01::3/64",
            "h2 eth0 office 10.1.0.3/24 fd01::4/64",
        ]
    );
    let interface = &plan.nodes[1].interfaces[0];
    assert_eq!(interface.mac, [2, 0, 0, 0, 0, 7]);
    assert_eq!(interface.impair.as_deref(), Some("delay=10ms,in.loss=1%"));
    assert_eq!(interface.keys, "vlan=7");
    assert!(plan.lans[1].is_link && !plan.lans[0].is_link);
}

#[test]
fn addresses_are_distributed_as_run_does() {
    let plan = plan(
        r#"
        [lan.a]
        [lan.b]
        [node.r]
        lans = ["a", "b"]
        addresses = ["10.1.0.1/24", "fd01::1/64", "10.2.0.1/24", "fd02::1/64", "eth0=10.1.0.2/24"]
        [node.x]
        lans = ["a"]
        addresses = ["10.1.0.3/24", "10.1.0.4/24"]
        "#,
    );
    assert_eq!(
        addresses(&plan),
        [
            "r eth0 a 10.1.0.1/24 fd01::1/64 10.1.0.2/24",
            "r eth1 b 10.2.0.1/24 fd02::1/64",
            "x eth0 a 10.1.0.3/24 10.1.0.4/24",
        ]
    );
}

#[test]
fn automatic_addresses_can_be_turned_off() {
    let plan = plan(
        r#"
        [lan.a]
        prefixes = ["10.1.0.0/24", "fd01::/64"]
        [node.x]
        lans = "a"
        address = "none"
        [node.y]
        kind = "host"
        lans = "a"
        dhcp = true
        [node.z]
        lans = "a"
        gateway = "10.1.0.1"
        [node.net]
        kind = "internet"
        lans = "a"
        "#,
    );
    assert_eq!(
        addresses(&plan),
        ["x eth0 a", "y eth0 a fd01::1/64", "z eth0 a 10.1.0.2/24 fd01::2/64", "net eth0 a"]
    );
}

#[test]
fn groups_and_defaults_are_merged_and_the_node_wins() {
    let plan = plan(
        r#"
        [defaults.run]
        forward = true
        env = { A = "defaults", B = "defaults" }
        [defaults.lan]
        size = "4M"
        delay = "10ms"
        [lan.a]
        loss = "1%"
        [group.g]
        env = { B = "group", C = "{{ name }}" }
        exec = "true"
        [node.x]
        group = "g"
        env.D = 7
        [node.y]
        groups = ["g"]
        forward = false
        exec = ["a", "b"]
        [node.h]
        kind = "host"
        lans = "a"
        address = "10.0.0.1/8"
        "#,
    );
    let env = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let [x, y, _] = &plan.nodes[..] else { panic!() };
    assert_eq!(x.env, env(&[("A", "defaults"), ("B", "group"), ("C", "x"), ("D", "7")]));
    assert_eq!(
        (&x.exec[..], &y.exec[..]),
        (&["true".to_owned()][..], &["a".to_owned(), "b".to_owned()][..])
    );
    let forwards = |kind: &Kind| matches!(kind, Kind::Run(run) if run.forward);
    assert!(forwards(&x.kind) && !forwards(&y.kind));
    assert_eq!(plan.lans[0].impair, "delay=10ms,loss=1%");
    assert_eq!(plan.lans[0].size, 4 << 20);
}

#[test]
fn templates_see_the_lab() {
    let plan = plan(
        r#"
        name = "t"
        vars = { as = 65000, color = "red" }
        [lan.office]
        prefix = "10.1.0.0/24"
        [link.p2p]
        ends = ["r1", "r2"]
        prefix = "10.9.0.0/30"
        [node.r]
        count = 2
        lans = "office"
        vars.as = "{{ 65000 + index }}"
        env.ALL = "{{ lab.name }} {{ name }} {{ index }}/{{ count }} {{ address }} {{ vars.as }} {{ vars.color }}"
        env.LANS = "{% for i in interfaces %}{{ i.name }}={{ i.lan }}={{ i.address }};{% endfor %}"
        env.PEER = "{{ node['r' ~ (3 - index)].address('p2p') }} {{ node.r1.vars.as }}"
        env.MEMBERS = "{% for m in lan.office.members if m.node != name %}{{ m.node }} {{ m.address }}{% endfor %}"
        env.PREFIX = "{{ lan.office.prefix }}"
        [[check]]
        node = "r"
        exec = "test {{ name }} != {{ node.r1.address }}"
        "#,
    );
    let env = &plan.nodes[1].env;
    assert_eq!(env["ALL"], "t r2 2/2 10.1.0.2 65002 red");
    assert_eq!(env["LANS"], "eth0=office=10.1.0.2;eth1=p2p=10.9.0.2;");
    assert_eq!(env["PEER"], "10.9.0.1 65001");
    assert_eq!(env["MEMBERS"], "r1 10.1.0.1");
    assert_eq!(env["PREFIX"], "10.1.0.0/24");
    assert_eq!(plan.checks.len(), 2);
    assert_eq!(plan.checks[1].name, "r2: test r2 != 10.1.0.1");
}

#[test]
fn every_kind_has_its_keys() {
    let plan = plan(
        r#"
        [lan.a]
        prefix = "10.0.0.0/24"
        [lan.r]
        [node.run]
        lans = ["a"]
        gateway = "10.0.0.254"
        route = ["10.2.0.0/16=10.0.0.253", "fd00::/8=fe80::1"]
        dns = "10.0.0.53"
        sysctl = { "net.ipv4.ip_forward" = 1 }
        services = ["/usr/sbin/bird -f", { run = "x -y", name = "web", restart = "always" }]
        ready = ["birdc show status", { tcp = 80 }, { file = "x" }, { log = "started" }]
        ready-within = "1m"
        files."bird.conf" = "name {{ name }}"
        files."bin/x" = { text = "echo", mode = "755" }
        [node.host]
        kind = "host"
        lans = "a"
        gateway = ["10.0.0.254"]
        tcp-sink = 9
        [node.m]
        kind = "memif"
        lans = "a"
        role = "client"
        id = 3
        ready = "connected"
        services = "dpdk-testpmd"
        [node.v]
        kind = "vm"
        lans = ["a", "a"]
        kernel = "/vmlinuz"
        memory = "1G"
        [node.i]
        kind = "internet"
        lans = "a"
        [node.k]
        kind = "rump"
        lans = "r"
        services = "rump_server"
        [node.p]
        kind = "process"
        lans = "a"
        exec = "ls $BUS_a"
        [node.b]
        kind = "bus"
        lans = "a"
        path = "/dev/shm/other"
        [node.c]
        kind = "pcap"
        lans = "a"
        file = "/x.pcap"
        [[check]]
        node = "host"
        ping = "run"
        within = 3
        [[check]]
        node = "run"
        ping = "10.0.0.99"
        fails = true
        [[check]]
        set = "run:eth0"
        partition = true
        out.delay = "3ms"
        "#,
    );
    let run = &plan.nodes[0];
    let Kind::Run(kind) = &run.kind else { panic!() };
    assert_eq!(kind.routes.len(), 3);
    assert_eq!(kind.routes[0].network.to_string(), "0.0.0.0/0");
    assert_eq!(run.services[0].name, "bird");
    assert_eq!((&run.services[1].name[..], run.services[1].restart), ("web", Restart::Always));
    assert_eq!(run.ready[1..3], [Ready::Tcp(80), Ready::File("x".into())]);
    assert_eq!(run.ready_within, Duration::from_mins(1));
    assert_eq!(run.files[1].text, "name run");
    assert!(run.files[0].is_executable && !run.files[1].is_executable);
    assert!(matches!(&plan.nodes[2].kind, Kind::Memif(m) if !m.is_server && m.id == 3));
    assert!(matches!(&plan.nodes[3].kind, Kind::Vm(vm) if vm.memory == 1024));
    assert_eq!(plan.nodes[3].ready_within, Duration::from_mins(2));
    assert!(plan.lans[1].is_shmif && plan.lans[1].size == 1 << 20, "a rump kernel is on it");
    assert!(!plan.lans[0].is_shmif && plan.lans[0].size == 16 << 20);
    let names: Vec<&str> = plan.checks.iter().map(|check| &check.name[..]).collect();
    assert_eq!(
        names,
        [
            "host reaches run",
            "run does not reach 10.0.0.99",
            "set run:eth0 partition=on,out.delay=3ms"
        ]
    );
    assert!(matches!(&plan.checks[0].action, Action::Ping { .. }));
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}

#[test]
fn all_that_is_wrong_is_found_at_once() {
    let text = r#"
[lan.office]
prefix = "10.1.0.0/24"
mtu = 1400
[link.l]
[node.r1]
lans = ["ofice", "office"]
gateway = "10.9.0.1"
after = "r2"
[node.r2]
kind = "host"
lans = "office"
forward = true
address = "10.2.0.1/24"
after = ["r1"]
[node.r_3]
[node.v]
kind = "vm"
lans = "office"
mtuu = 3
[[node.v.interface]]
lan = "office"
mtu = 1500
mac = "01:00:00:00:00:00"
[node.d]
address = "10.1.0.1/24"
lans = "office"
[node.d2]
address = "10.1.0.1/24"
lans = "office"
env.X = "{{ nmae }}"
files."../x" = ""
[[check]]
node = "r9"
ping = "r1"
[[check]]
node = "d"
exec = "true"
fails = "x"
"#;
    assert_eq!(
        problems(text),
        [
            "5:7: the link 'l' has 0 ends, and not two",
            "7:9: there is no LAN or link 'ofice' (did you mean 'office'?)",
            "8:11: 10.9.0.1 is on no network that r1 is on",
            "9:9: r1 waits for r2, which waits for r1: none is ever started",
            "13:1: a node of the kind host has no 'forward': that is for run",
            "14:11: 10.2.0.1 is in no network of 'office'; add its network to the prefixes of 'office'",
            "16:7: 'r_3' cannot be a host name: those have 1 to 63 letters, digits and '-', and no '-' at an end",
            "17:7: v needs a 'kernel' or a 'disk' to start from",
            "20:1: a node has no key 'mtuu'",
            "23:7: the MTU 1500 is over that of 'office', which carries 1400",
            "24:7: 01:00:00:00:00:00 is not the address of one station: the lowest bit of the first byte must be 0",
            "29:11: d2 and d both have the address 10.1.0.1 on 'office'",
            "31:9: the template uses 'nmae', which is not defined (did you mean 'name'?)",
            "32:16: '../x' is outside of the folder: a path here is relative and has no '..'",
            "34:8: there is no node or group 'r9'",
            "39:9: 'fails' takes true or false, and this is a text",
        ]
    );
}

#[test]
fn syntax_errors_have_their_places() {
    assert_eq!(problems("a = \n[node.x\nb = 1\n")[0].split(": ").next(), Some("1:5"));
    assert_eq!(problems("[lan.a]\n[lan.a]\n").len(), 1);
}

#[test]
fn a_mistake_in_a_counted_node_is_told_once() {
    let text = "[node.r]\ncount = 300\nlans = \"x\"\nenv.A = \"{{ b }}\"\nexec = [\"\"]\n";
    assert_eq!(problems(text).len(), 3);
    assert_eq!(problems("[node.r]\ncount = 3000\n"), ["2:9: this is a number from 1 to 1000"]);
    assert!(problems("[node.r]\ncount = 0\n")[0].contains("from 1 to 1000"));
    assert_eq!(
        problems("[node.r]\ncount = 2\n[node.r2]\n"),
        ["3:7: 'r2' is the name of another node"]
    );
}

#[test]
fn links_have_two_ends() {
    let text = "[link.a]\nends = [\"x\", \"y\", \"z\"]\n[node.x]\n[node.y]\n[node.z]\n";
    assert_eq!(
        problems(text),
        ["1:7: the link 'a' has 3 ends, and not two", "2:8: a link has two ends"]
    );
    assert_eq!(
        problems("[link.a]\nends = [\"x\", \"w\"]\n[node.x]\n"),
        ["1:7: the link 'a' has 1 ends, and not two", "2:14: there is no node or group 'w'"]
    );
}

#[test]
fn counted_links_make_a_grid() {
    let plan = plan(
        r#"
        [link.h]
        count = 4
        ends = ["r{{ (index - 1) // 2 * 3 + (index - 1) % 2 + 1 }}", "r{{ (index - 1) // 2 * 3 + (index - 1) % 2 + 2 }}"]
        prefix = "10.0.{{ index }}.0/30"
        [link."v{{ index }}"]
        count = 3
        ends = ["r{{ index }}", "r{{ index + 3 }}"]
        [node.r]
        count = 6
        "#,
    );
    assert_eq!(plan.lans.len(), 7);
    assert_eq!(plan.nodes[4].interfaces.len(), 3);
    assert_eq!(
        addresses(&plan)[0..4],
        [
            "r1 eth0 h1 10.0.1.1/30",
            "r1 eth1 v1",
            "r2 eth0 h1 10.0.1.2/30",
            "r2 eth1 h2 10.0.2.1/30"
        ]
    );
}

#[test]
fn a_prefix_that_is_used_up_is_told() {
    let text = "[lan.a]\nprefix = \"10.0.0.0/30\"\n[node.r]\ncount = 3\nlans = \"a\"\n";
    assert_eq!(problems(text), ["2:10: 10.0.0.0/30 has no room for all interfaces on 'a'"]);
}

#[test]
fn macs_are_the_same_each_time_and_different() {
    let text = "[lan.a]\n[node.r]\ncount = 1000\nlans = \"a\"\n";
    let (first, second) = (plan(text), plan(text));
    assert_eq!(first, second);
    let macs: std::collections::BTreeSet<[u8; 6]> =
        first.nodes.iter().map(|node| node.interfaces[0].mac).collect();
    assert_eq!(macs.len(), 1000);
    assert!(macs.iter().all(|mac| mac[0] & 3 == 2));
}

#[test]
fn impairments_are_judged_by_the_rule_that_is_given() {
    fn rule(text: &str) -> Result<(), String> {
        if text.contains("loss=200%") { Err("loss is at most 100%".to_owned()) } else { Ok(()) }
    }
    let text =
        "[lan.a]\ndelay = \"10ms\"\nloss = \"200%\"\n[[check]]\nset = \"a\"\nout.loss = \"200%\"\n";
    let source = Source::new().impairments(rule);
    let problems = Plan::from_toml(text, &source).unwrap_err().to_string();
    assert_eq!(problems, "2:9: loss is at most 100%\n6:12: loss is at most 100%");
}

#[test]
fn environment_variables_are_those_of_the_source() {
    let text = "[node.x]\nenv.K = \"{{ env.KERNEL }}\"\nenv.L = \"{{ env.NOT | default('d') }}\"\n";
    let source = Source::new().vars([("KERNEL".to_owned(), "/vmlinuz".to_owned())]);
    let plan = Plan::from_toml(text, &source).unwrap();
    assert_eq!(plan.nodes[0].env["K"], "/vmlinuz");
    assert_eq!(plan.nodes[0].env["L"], "d");
    assert!(problems(text)[0].contains("the environment variable KERNEL is not set"));
}

#[test]
fn templates_beside_the_file_are_read_and_none_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let lab = folder.path().join("lab");
    std::fs::create_dir(&lab).unwrap();
    std::fs::write(lab.join("x.j2"), "1\n{{ name }}\n{{ wrong }}\n").unwrap();
    std::fs::write(lab.join("ok.j2"), "I am {{ name }}\n").unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", lab.join("link")).unwrap();
    let read = |files: &str| {
        let path = lab.join("l.toml");
        std::fs::write(&path, format!("[node.x]\n{files}\n")).unwrap();
        read_file(&path, &Source::new().path(&path)).map_err(|error| error.to_string())
    };
    let plan = read("files.a = { template = \"ok.j2\" }\nfiles.b = { copy = \"ok.j2\" }").unwrap();
    assert_eq!(plan.nodes[0].files[0].text, "I am x\n");
    assert_eq!(plan.nodes[0].files[1].text, "I am {{ name }}\n");
    for (files, message) in [
        (
            "files.a = { template = \"x.j2\" }",
            "x.j2, line 3: the template uses 'wrong', which is not defined",
        ),
        ("files.a = { template = \"no.j2\" }", "cannot read 'no.j2'"),
        ("files.a = { copy = \"link\" }", "leads out of the folder"),
        ("files.a = { copy = \"../secret\" }", "is outside of the folder"),
        ("files.a = { copy = \"a\", text = \"b\" }", "one of 'text', 'template' and 'copy'"),
        ("files.a = \"\"\nfiles.\"a/b\" = \"\"", "in the way of another file"),
    ] {
        let error = read(files).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_template_of_many_lines_says_its_line() {
    let text = "[node.x]\nfiles.a = \"\"\"\none\ntwo {{ three }}\n\"\"\"\n";
    assert_eq!(problems(text), ["4:1: the template uses 'three', which is not defined"]);
}

/// All labs that are shipped.
fn shipped() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/labs");
    let mut labs: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    labs.sort();
    labs
}

/// The variables that shipped labs need.
fn vars() -> Vec<(String, String)> {
    ["KERNEL", "INITRD"].map(|name| (name.to_owned(), format!("/boot/{name}"))).to_vec()
}

#[test]
fn each_shipped_lab_is_a_plan_with_checks() {
    let labs = shipped();
    assert!(labs.len() >= 8, "{labs:?}");
    for (path, text) in labs {
        let source = Source::new().path(&path).vars(vars());
        let plan = Plan::from_toml(&text, &source).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!plan.checks.is_empty(), "{path}");
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan, "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_panics_on_any_text(text in "(?s).{0,200}") {
        let _ = Plan::from_toml(&text, &Source::new());
    }

    /// Shipped labs with parts removed, repeated and exchanged: most of it still is TOML.
    #[test]
    fn nothing_panics_on_mutations(
        lab in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4), 1..6),
    ) {
        let labs = shipped();
        let mut lines: Vec<String> = lab.get(&labs).1.lines().map(str::to_owned).collect();
        for (from, to, what) in changes {
            if lines.is_empty() {
                break;
            }
            let (from, to) = (from.index(lines.len()), to.index(lines.len()));
            match what {
                0 => { lines.remove(from); }
                1 => { let line = lines[from].clone(); lines.insert(to, line); }
                2 => lines.swap(from, to),
                _ => {
                    let mut bytes = lines[from].clone().into_bytes();
                    if let Some(last) = bytes.last_mut() {
                        *last = last.wrapping_add(u8::try_from(to % 7).unwrap());
                    }
                    lines[from] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        let text = lines.join("\n");
        if let Err(problems) = Plan::from_toml(&text, &Source::new().vars(vars())) {
            prop_assert!(!problems.list.is_empty());
            for problem in problems.list {
                prop_assert!(problem.line >= 1 && problem.line <= lines.len() + 1);
                prop_assert!(problem.column >= 1);
            }
        }
    }
}

const HOSTS: &str = "
[host.a]
address = \"192.0.2.1\"
[host.b]
address = \"192.0.2.2\"
[lan.l]
prefix = \"10.0.0.0/24\"
[group.g]
on = \"b\"
[defaults.host]
on = \"a\"
[node.x]
on = \"a\"
lans = \"l\"
[node.y]
count = 2
group = \"g\"
lans = \"l\"
[node.z]
kind = \"host\"
lans = \"l\"
";

#[test]
fn nodes_are_on_the_hosts_that_the_file_says() {
    let plan = plan(HOSTS);
    let on: Vec<_> = plan.nodes.iter().map(|node| node.on.as_deref().unwrap()).collect();
    assert_eq!(on, ["a", "b", "b", "a"]);
    // What is automatic is the same on each host.
    let part = plan.clone().on("b").unwrap();
    assert_eq!((&part.nodes, &part.lans), (&plan.nodes, &plan.lans));
    assert_eq!(plan.nodes[3].interfaces[0].addresses, ["10.0.0.4/24".parse().unwrap()]);
    assert_eq!(plan.lans[0].trunk.as_ref().unwrap().machines, ["a", "b"]);
}

#[test]
fn what_is_wrong_with_hosts_is_said_where_it_is() {
    for (from, to, said) in [
        ("on = \"b\"", "on = \"c\"", "9:6: there is no host 'c'"),
        ("on = \"b\"", "", "15:7: y1 needs 'on', the host that runs it: a, b"),
        ("192.0.2.2", "192.0.2.1", "5:11: 192.0.2.1 is the address of a, too"),
        ("192.0.2.2", "fd00::1", "5:11: the addresses of hosts are all IPv4, or all IPv6"),
        ("192.0.2.2", "0.0.0.0", "5:11: '0.0.0.0' is no address of a host"),
        ("192.0.2.2", "192.0.2.2:x", "no address of a host"),
        ("[host.b]", "[host.b_]", "4:7: "),
        ("[host.b]", "[host.b]\nlisten = \"7447\"", "5:10: '7447' is no endpoint of Zenoh"),
        ("[host.b]", "[host.b]\nlisen = \"tcp/x:1\"", "did you mean 'listen'?"),
        ("[lan.l]", "[lan.l]\nvia = \"zenoh\"", "7:7: 'via' takes"),
        ("count = 2", "count = 2\nafter = \"x\"", "17:9: x is on another host than y1"),
        (
            "address = \"192.0.2.2\"",
            "[defaults.lan]\nvia = \"vxlan\"",
            "'l' has nodes on b, which has no",
        ),
        ("[node.z]", "[node.z]\nvia = \"trunk\"", "a node has no key 'via'"),
    ] {
        assert!(HOSTS.contains(from), "{from}");
        let problems = problems(&HOSTS.replacen(from, to, 1)).join("\n");
        assert!(problems.contains(said), "{from} as {to}: {problems}");
    }
    // Beyond the last UDP port.
    let many = HOSTS
        .replace("192.0.2.2", "192.0.2.2:65535")
        .replace("[lan.l]", "[link.w]\nends = [\"x\", \"y1\"]\n[lan.l]");
    let problems = problems(&many).join("\n");
    assert!(problems.contains("receives at UDP port 65535 and 1 above it"), "{problems}");
}

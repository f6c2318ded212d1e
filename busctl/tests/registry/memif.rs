//! memif interfaces in the registry, without a node.

use std::fs;

use crate::{Lab, mode};

#[test]
fn a_memif_interface_is_made_on_its_socket() {
    let lab = Lab::new();
    assert_eq!(lab.prints("create memif0/3"), "memif0/3\n");
    lab.prints("socket add 1 ./m.sock");
    assert_eq!(
        lab.prints("create memif1/3 role=client rsize=11 bsize=4096 rx-mode=interrupt"),
        "memif1/3\n"
    );
    let shown = lab.json("show memif1/3 --json");
    for (key, value) in [
        ("name", "memif1/3".into()),
        ("kind", "memif".into()),
        ("linkstr", serde_json::Value::Null),
        ("link", "down".into()),
        ("capenable", 0.into()),
        ("socket_id", 1.into()),
        ("socket", lab.path("m.sock").to_str().unwrap().into()),
        ("id", 3.into()),
        ("role", "client".into()),
        ("mode", "ethernet".into()),
        ("ring_size", 2048.into()),
        ("buffer_size", 4096.into()),
        ("rx_mode", "interrupt".into()),
        ("secret", false.into()),
        ("connected", false.into()),
        ("remote", serde_json::Value::Null),
        ("rings", serde_json::json!([])),
        ("rx_packets", 0.into()),
    ] {
        assert_eq!(shown.get(key), Some(&value), "{key}: {shown}");
    }
    assert_eq!(lab.json("show memif0/3 --json")["role"], "server");
    assert_eq!(lab.json("show memif0/3 --json")["ring_size"], 1024);
}

#[test]
fn it_takes_every_key_that_dpdk_has() {
    let lab = Lab::new();
    lab.prints(
        "create memif0/0 role=server bsize=2048 rsize=10 rx-queues=1 tx-queues=1 secret=squeamish mac=02:00:00:00:00:01 \
         mode=ethernet zero-copy=yes rx-mode=adaptive name=lan",
    );
    lab.prints("create memif0/1 role=master zero-copy=no");
    lab.refuses("create memif0/2 zero-copy=1", "it is one of no, yes");
}

#[test]
fn it_keeps_the_address_it_was_made_with() {
    let lab = Lab::new();
    lab.prints("create memif0/0");
    let mac = || lab.json("show memif0/0 --json")["mac"].as_str().unwrap().to_owned();
    let first = mac();
    assert!(first.starts_with("b2:a0:"), "{first}");
    lab.prints("set memif0/0 rsize=9");
    assert_eq!(mac(), first);
    lab.prints("set memif0/0 mac=02:00:00:00:00:01");
    assert_eq!(mac(), "02:00:00:00:00:01");
}

#[test]
fn what_cannot_be_made_is_refused_and_nothing_is_made() {
    let lab = Lab::new();
    lab.refuses("create memif7/0", "there is no socket 7: 'busctl socket add 7 PATH' makes it");
    for (settings, why) in [
        ("mode=ip", "a memif port needs ip=ADDR/LEN with mode=ip"),
        ("rsiez=3", "no key 'rsiez' (did you mean 'rsize'?)"),
        ("rsize=15", "a number from 1 to 14"),
        ("role=sever", "did you mean 'server'?"),
        ("id=3", "the id of memif0/0 is in its name"),
        ("socket=./m.sock", "'busctl socket add'"),
        ("mac=01:00:5e:00:00:01", "no station's address"),
        ("secret=a-secret-of-25-characters", "secret"),
        ("promisc=on", "no key 'promisc'"),
        ("rsize", "key=value"),
    ] {
        lab.refuses(&format!("create memif0/0 {settings}"), why);
    }
    lab.refuses("create memif00/0", "no interface's name");
    lab.refuses("create mefim0/0", "did you mean 'memif'?");
    assert_eq!(lab.json("show --json")["interfaces"], serde_json::json!([]));
    lab.prints("create memif0/0");
    lab.refuses("create memif0/0", "there is an interface memif0/0 already");
}

#[test]
fn all_interfaces_on_a_socket_have_one_role() {
    let lab = Lab::new();
    lab.prints("create memif0/0");
    lab.refuses("create memif0/1 role=client", "socket 0 has memif0/0, a server");
    lab.prints("create memif0/1 role=master");
    lab.refuses("set memif0/1 role=client", "socket 0 has memif0/0, a server");
    lab.prints("destroy memif0/0");
    lab.prints("set memif0/1 role=client");
    assert_eq!(lab.json("show memif0/1 --json")["role"], "client");
}

#[test]
fn settings_change_only_while_it_is_down() {
    let lab = Lab::new();
    lab.prints("create memif0/0 rsize=9");
    lab.refuses("up memif0/0", "memif0/0 has no bus; 'busctl linkstr memif0/0 BUSPATH'");
    lab.prints("linkstr memif0/0 ./lan.bus");
    lab.notes("up memif0/0", "no process runs memif0/0 yet; 'busctl node' does");
    lab.refuses("set memif0/0 rsize=8", "memif0/0 is up: take it down before changing its ");
    lab.refuses("linkstr memif0/0 --unset", "memif0/0 is up: take it down before changing its bus");
    lab.prints("down memif0/0");
    lab.refuses("set memif0/0 rsize=8 bsize=3", "bsize=3: it is a number from 64 to 65535");
    assert_eq!(lab.json("show memif0/0 --json")["ring_size"], 512, "all or none");
    lab.prints("set memif0/0 rsize=");
    assert_eq!(
        lab.json("show memif0/0 --json")["ring_size"],
        1024,
        "nothing brings the default back"
    );
    lab.refuses("set memif0/0 rsiez=", "did you mean 'rsize'?");
}

#[test]
fn a_secret_is_kept_and_never_shown() {
    let lab = Lab::new();
    lab.prints("create memif0/0 secret=hunter2");
    let record = lab.path("state/interfaces/memif0-0.toml");
    assert_eq!(mode(&record), 0o600);
    assert!(fs::read_to_string(&record).unwrap().contains("hunter2"));
    assert_eq!(lab.json("show memif0/0 --json")["secret"], true);
    for words in ["show", "show --json", "show memif0/0", "socket list", "socket list --json"] {
        assert!(!lab.prints(words).contains("hunter2"), "{words}");
    }
    assert!(lab.prints("show memif0/0").contains("with a secret"));

    // Nor where its record is damaged.
    fs::write(
        &record,
        fs::read_to_string(&record).unwrap().replace("[memif]", "[memif]\nbsize = \"1\""),
    )
    .unwrap();
    let shown = lab.busctl("show").output().unwrap();
    let complaint = String::from_utf8(shown.stderr).unwrap();
    assert!(
        complaint.contains("memif0-0.toml is damaged") && !complaint.contains("hunter2"),
        "{complaint}"
    );
}

#[test]
fn it_is_shown_as_vpp_does() {
    let lab = Lab::new();
    lab.prints("create memif0/3 mac=02:00:00:00:00:01");
    lab.prints("linkstr memif0/3 ./lan.bus");
    let text = lab.prints("show memif0/3");
    let bus = lab.path("lan.bus");
    for part in [
        "memif0/3: flags=0x8802<BROADCAST,SIMPLEX,MULTICAST> mtu 1500\n",
        "\taddress: 02:00:00:00:00:01\n",
        &format!("\tlinkstr: {}\n", bus.display()),
        "\tadmin down, link down\n",
        "\trun by: no process\n",
        "\tsocket-id 0 (/run/vpp/memif.sock) id 3 role server mode ethernet\n",
        "\tring-size 1024 buffer-size 2048 rx-mode adaptive\n",
        "\tremote: none\n",
        "\tinput: 0 packets, 0 bytes, 0 dropped, 0 errors\n",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn it_is_no_station_for_the_verbs_that_need_one() {
    let lab = Lab::new();
    lab.prints("create memif0/0");
    lab.prints("linkstr memif0/0 ./lan.bus");
    lab.notes("up memif0/0", "no process runs memif0/0 yet; 'busctl node' does");
    let why = "memif0/0 is a memif interface, which 'busctl node' runs: give a shmif interface, or the path";
    lab.refuses("host memif0/0 10.0.0.1/24", why);
    lab.refuses("ping memif0/0 10.0.0.1 --from 10.0.0.2/24", why);
    lab.refuses("attach memif0/0 memif:socket=./m.sock", why);
    // A process that only reads needs no station.
    lab.prints("dump memif0/0");
}

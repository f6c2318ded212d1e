//! `create` and `destroy`.

use crate::{Lab, refused};

#[test]
fn the_lowest_free_unit_is_taken_and_its_name_printed() {
    let lab = Lab::new();
    assert_eq!(lab.prints("create"), "shmif0\n");
    assert_eq!(lab.prints("create shmif"), "shmif1\n");
    assert_eq!(lab.prints("create shmif3"), "shmif3\n");
    assert_eq!(lab.prints("create promisc=on"), "shmif2\n");
    assert_eq!(lab.prints("create"), "shmif4\n");
    lab.prints("destroy shmif1 shmif0");
    assert_eq!(lab.prints("create"), "shmif0\n");
}

#[test]
fn an_interface_is_made_with_an_address_of_its_own_and_everything_off() {
    let lab = Lab::new();
    lab.prints("create");
    lab.prints("create");
    let [first, second] = ["shmif0", "shmif1"].map(|name| lab.json(&format!("show {name} --json")));
    assert!(first["mac"].as_str().unwrap().starts_with("b2:a0:"), "{first}");
    assert_ne!(first["mac"], second["mac"]);
    assert_eq!(first["capenable"], 0);
    assert_eq!(first["link"], "unknown");
    assert_eq!(first["flags"], serde_json::json!(["broadcast", "simplex", "multicast"]));
}

#[test]
fn settings_are_taken_at_creation() {
    let lab = Lab::new();
    lab.prints(
        "create shmif5 mac=02:00:00:00:00:05 capenable=tso4,tcp4csum-tx promisc=on media=none",
    );
    let interface = lab.json("show shmif5 --json");
    assert_eq!(interface["mac"], "02:00:00:00:00:05");
    assert_eq!(interface["capenable"], 0x880);
    assert_eq!(interface["media"], "none");
    assert!(interface["flags"].as_array().unwrap().contains(&"promisc".into()));
}

#[test]
fn the_environment_gives_the_first_offload_flags() {
    let lab = Lab::new();
    let create = |flags: &str, words| {
        let mut command = lab.busctl(words);
        command.env("RUMP_SHMIF_CAPENABLE", flags);
        command
    };
    create("0xffffffff", "create").assert().success();
    assert_eq!(lab.json("show shmif0 --json")["capenable"], 0x7_ff80);
    create("0x880", "create shmif1 capenable=0").assert().success();
    assert_eq!(lab.json("show shmif1 --json")["capenable"], 0);
    refused(
        &mut create("many", "create"),
        2,
        "$RUMP_SHMIF_CAPENABLE: 'many' is not an offload flag",
    );
}

#[test]
fn what_cannot_be_made_is_refused_and_nothing_is_made() {
    let lab = Lab::new();
    lab.prints("create shmif0");
    lab.refuses("create shmif0", "there is an interface shmif0 already");
    lab.refuses("create shmif00", "no interface's name");
    lab.refuses("create shmfi", "did you mean 'shmif'?");
    lab.refuses("create memif", "named by its socket and its id, such as memif0/1");
    lab.refuses("create shmif promsic=on", "did you mean 'promisc'?");
    lab.refuses("create shmif promisc", "key=value");
    lab.refuses("create promisc=on shmif4", "key=value");
    lab.refuses("create mac=01:00:5e:00:00:01", "not the address of one station");
    assert_eq!(lab.json("show --json")["interfaces"].as_array().unwrap().len(), 1);
}

#[test]
fn all_are_destroyed_or_none() {
    let lab = Lab::new();
    lab.prints("create");
    lab.prints("create");
    lab.refuses("destroy shmif0 shmif7", "there is no interface shmif7");
    lab.prints("show shmif0");
    lab.prints("destroy shmif0 shmif1 shmif0");
    assert_eq!(lab.prints("show"), "");
    lab.refuses("destroy", "required");
    lab.refuses("destroy eth0", "no interface's name");
}

#[test]
fn names_and_buses_are_there_for_programs_too() {
    let lab = Lab::new();
    assert_eq!(lab.prints("create --json"), "{\"name\":\"shmif0\"}\n");
    lab.refuses("linkstr shmif0 --json", "shmif0 has no bus");
    lab.prints("linkstr shmif0 ./lan.bus");
    let plugged = lab.json("linkstr shmif0 --json");
    let bus = lab.path("lan.bus");
    assert_eq!(
        (&plugged["name"], &plugged["linkstr"]),
        (&"shmif0".into(), &bus.to_str().unwrap().into())
    );
    lab.refuses("linkstr shmif0 --unset --json", "cannot be used with");
}

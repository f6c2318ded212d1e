//! `set`.

use crate::Lab;

#[test]
fn settings_change_and_the_others_stay() {
    let lab = Lab::new();
    lab.prints("create shmif0 mac=02:00:00:00:00:01 promisc=on");
    lab.prints("set shmif0 capenable=0x880 media=none");
    lab.prints("set shmif0 promisc=off capenable=04200");
    let interface = lab.json("show shmif0 --json");
    assert_eq!(interface["mac"], "02:00:00:00:00:01");
    assert_eq!(interface["capenable"], 0x880);
    assert_eq!(interface["media"], "none");
    assert!(!interface["flags"].as_array().unwrap().contains(&"promisc".into()));
}

#[test]
fn the_media_move_the_link() {
    let lab = Lab::new().with_interface_up();
    for (media, link) in [("none", "down"), ("auto", "up")] {
        lab.prints(&format!("set shmif0 media={media}"));
        assert_eq!(lab.json("show shmif0 --json")["link"], link);
    }
}

#[test]
fn all_are_set_or_none() {
    let lab = Lab::new();
    lab.prints("create shmif0 mac=02:00:00:00:00:01");
    let before = lab.json("show shmif0 --json");
    lab.refuses(
        "set shmif0 promisc=on mac=02:00:00:00:00:01 promisc=off",
        "'promisc' is given twice",
    );
    lab.refuses("set shmif0 promisc=on mac=03:00:00:00:00:01", "not the address of one station");
    lab.refuses(
        "set shmif0 promisc=on media=fibre",
        "media cannot be 'fibre': it takes auto or none",
    );
    lab.refuses("set shmif0 promisc=on speed=9000", "no setting 'speed'");
    lab.refuses("set shmif0 promisc=on mtu=67", "mtu cannot be '67'");
    lab.refuses("set shmif0 capenable=tso5", "did you mean 'tso");
    lab.refuses("set shmif0 promisc", "key=value");
    lab.refuses("set shmif0", "required");
    lab.refuses("set shmif1 promisc=on", "there is no interface shmif1 (did you mean 'shmif0'?)");
    assert_eq!(lab.json("show shmif0 --json"), before);
}

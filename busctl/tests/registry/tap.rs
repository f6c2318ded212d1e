//! tap interfaces in the registry, without a node.

use crate::Lab;

#[test]
fn a_tap_interface_is_made_with_the_lowest_free_unit_or_its_own() {
    let lab = Lab::new();
    assert_eq!(lab.prints("create tap"), "tap0\n");
    assert_eq!(lab.prints("create tap1"), "tap1\n");
    assert_eq!(lab.prints("create tap"), "tap2\n");
    assert_eq!(lab.prints("create"), "shmif0\n");
    let shown = lab.json("show tap2 --json");
    for (key, value) in [
        ("kind", "tap".into()),
        ("device", "tap2".into()),
        ("offload", true.into()),
        ("mac", serde_json::Value::Null),
        ("link", "down".into()),
    ] {
        assert_eq!(shown.get(key), Some(&value), "{key}: {shown}");
    }
}

#[test]
fn its_settings_are_those_of_the_port() {
    let lab = Lab::new();
    lab.prints("create tap0 name=lan0 mac=02:00:00:00:00:07 offload=off");
    let shown = lab.json("show tap0 --json");
    assert_eq!((&shown["device"], &shown["offload"]), (&"lan0".into(), &false.into()));
    assert_eq!((&shown["mac"], &shown["capenable"]), (&"02:00:00:00:00:07".into(), &0.into()));
    let text = lab.prints("show tap0");
    assert!(text.contains("\tdevice: lan0, admin down, link down\n"), "{text}");
    lab.refuses("set tap0 offlaod=on", "no key 'offlaod' (did you mean 'offload'?)");
    lab.refuses("set tap0 name=a/b", "a name has 1 to 15 bytes");
    lab.prints("set tap0 name= offload=on");
    assert_eq!(lab.json("show tap0 --json")["device"], "tap0");
    lab.refuses("create tap00", "no interface's name");
}

//! What people type who know other programs, and what they mean here.

use crate::registry::InterfaceName;

/// Words of other programs, and the verbs that do the same.
const WORDS: [(&[&str], &str); 13] = [
    (&["ls", "lst", "buses", "ps"], "'busctl list' (buses) or 'busctl show' (interfaces)"),
    (&["rm", "delete", "del", "remove"], "'busctl destroy IFNAME'"),
    (&["add", "new", "make", "mk"], "'busctl create shmif'"),
    (
        &["status", "stat", "stats", "info", "ifconfig", "ip", "link", "addr", "interfaces"],
        "'busctl show'",
    ),
    (&["start", "enable", "ifup"], "'busctl up IFNAME'"),
    (&["disable", "ifdown"], "'busctl down IFNAME'"),
    (&["kill", "end", "quit"], "'busctl stop NAME'"),
    (&["tcpdump", "sniff", "capture", "cap", "snoop", "tshark"], "'busctl dump BUS'"),
    (&["tcpreplay", "play", "inject"], "'busctl replay FILE BUS'"),
    (
        &["plug", "connect", "join", "bridge"],
        "'busctl linkstr IFNAME BUSPATH' or 'busctl attach BUS PORT'",
    ),
    (&["exec", "shell", "netns"], "'busctl run BUS -- CMD'"),
    (&["htop", "monitor", "watch"], "'busctl top'"),
    (&["config", "configure", "change"], "'busctl set IFNAME key=value'"),
];

/// Returns what was meant by words behind the program whose first is no verb, for `did you mean`.
pub(crate) fn meant(words: &[String]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    if let Ok(name) = first.parse::<InterfaceName>() {
        return Some(of_interface(name, rest));
    }
    if first.contains('/') {
        return Some(format!("'busctl show {first}'"));
    }
    let word = first.to_lowercase();
    // As in 'ip link show' and 'ip link set shmif0 up'.
    if matches!(&*word, "ip" | "ifconfig") {
        let name = rest.iter().position(|word| word.parse::<InterfaceName>().is_ok());
        let named = name.and_then(|at| Some((rest[at].parse().ok()?, &rest[at + 1..])));
        if let Some((name, rest)) = named {
            return Some(of_interface(name, rest));
        }
    }
    let found = WORDS.iter().find(|(words, _)| words.contains(&&*word));
    found.map(|(_, verb)| (*verb).to_owned())
}

/// Returns what is meant by the name of an interface and what follows, as for `ifconfig`.
fn of_interface(name: InterfaceName, rest: &[String]) -> String {
    let rest: Vec<&str> = rest.iter().map(String::as_str).filter(|word| *word != "dev").collect();
    match rest[..] {
        [verb @ ("up" | "down" | "destroy" | "create" | "show")] => {
            format!("'busctl {verb} {name}'")
        }
        ["delete" | "rm" | "unplumb"] => format!("'busctl destroy {name}'"),
        ["plumb" | "add"] => format!("'busctl create {name}'"),
        ["linkstr", path] => format!("'busctl linkstr {name} {path}'"),
        ["-linkstr"] => format!("'busctl linkstr {name} --unset'"),
        ["promisc"] => format!("'busctl set {name} promisc=on'"),
        ["-promisc"] => format!("'busctl set {name} promisc=off'"),
        ["address" | "link" | "lladdr" | "ether", mac, ..] => {
            format!("'busctl set {name} mac={mac}'")
        }
        ["mtu", mtu] => format!("'busctl set {name} mtu={mtu}'"),
        ["inet" | "inet6", address, ..] => format!("'busctl host {name} {address}'"),
        [setting, ..] if setting.contains('=') => format!("'busctl set {name} {}'", rest.join(" ")),
        [address, ..] if address.contains(['.', ':']) => {
            format!("'busctl host {name} {address}'")
        }
        _ => format!("'busctl show {name}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_programs_are_known() {
        for (line, right) in [
            ("ls", "'busctl list' (buses) or 'busctl show' (interfaces)"),
            ("rm shmif0", "'busctl destroy IFNAME'"),
            ("status", "'busctl show'"),
            ("start", "'busctl up IFNAME'"),
            ("ip link", "'busctl show'"),
            ("ip link set dev shmif0 up", "'busctl up shmif0'"),
            ("ip addr add 10.0.0.1/24 dev shmif0", "'busctl show shmif0'"),
            ("ifconfig shmif0 10.0.0.1/24", "'busctl host shmif0 10.0.0.1/24'"),
            ("shmif0", "'busctl show shmif0'"),
            ("shmif0 up", "'busctl up shmif0'"),
            ("memif0/1 down", "'busctl down memif0/1'"),
            ("shmif0 linkstr ./lan", "'busctl linkstr shmif0 ./lan'"),
            ("shmif0 -linkstr", "'busctl linkstr shmif0 --unset'"),
            ("shmif1 inet 10.0.0.1/24", "'busctl host shmif1 10.0.0.1/24'"),
            ("tap0 create", "'busctl create tap0'"),
            ("./lan.bus", "'busctl show ./lan.bus'"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(meant(&words).as_deref(), Some(right), "{line}");
        }
        assert_eq!(meant(&["creat".to_owned()]), None, "a typing error is clap's to see");
        assert_eq!(meant(&[]), None);
    }
}

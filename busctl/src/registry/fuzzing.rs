//! The body of a fuzz target, and the test that replays its seeds: arbitrary text as the files of
//! the registry. It panics when a promise is broken.

use super::name::InterfaceName;
use super::record::Record;
use super::report::Report;
use super::socket::Socket;

/// Parses `data` as the record of an interface of each kind, of a socket, and as a report. What is
/// accepted reads back as it is written.
pub fn record(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let names = [
        InterfaceName::Shmif(0),
        InterfaceName::Memif { socket: 0, id: 0 },
        InterfaceName::Tap(0),
        InterfaceName::Sock(0),
        InterfaceName::Vxlan(42),
        InterfaceName::Trunk(0),
    ];
    for name in names {
        match Record::parse(name, &text) {
            Ok(record) => {
                assert_eq!(record.name, name);
                let again = record.to_toml().expect("a record is TOML");
                assert_eq!(Record::parse(name, &again).as_ref(), Ok(&record), "{again}");
            }
            Err(why) => assert!(!why.contains('\n'), "{why:?}"),
        }
    }
    if let Ok(socket) = Socket::parse(1, &text) {
        let again = toml::to_string(&socket).expect("a record is TOML");
        assert_eq!(Socket::parse(1, &again), Ok(socket));
    }
    if let Ok(report) = toml::from_str::<Report>(&text) {
        let again = toml::to_string(&report).expect("a report is TOML");
        assert_eq!(toml::from_str(&again), Ok(report), "{again}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn records_replay() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds/record");
        let mut seeds = 0;
        for entry in fs::read_dir(folder).expect("seeds") {
            let seed = fs::read(entry.expect("a seed").path()).expect("a file");
            super::record(&seed);
            (0..seed.len()).for_each(|at| super::record(&seed[..at]));
            seeds += 1;
        }
        assert!(seeds > 0);
    }
}

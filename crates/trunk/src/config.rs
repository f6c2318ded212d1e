//! What Zenoh is configured with.

use std::net::IpAddr;

use port::trunk::TrunkSpec;
use zenoh::Config;

/// An end that other ends cannot see for this time has gone, in milliseconds. A link that is back is
/// found again in less.
const LEASE: &str = "2000";
/// How soon a router that is not there is tried again, in milliseconds.
const RETRY: &str =
    r#"{ "period_init_ms": 250, "period_max_ms": 1000, "period_increase_factor": 2 }"#;
/// How long an attempt to connect may take, in milliseconds: the system's own pauses between attempts
/// grow to many seconds.
const CONNECT_TIMEOUT: &str = "1500";
/// How long a link without room is waited for, in microseconds: it holds up the links to other ends.
const MAX_BLOCK: &str = "1000000";
/// The longest message that is taken, in bytes.
const MAX_MESSAGE: &str = "1048576";

/// The settings of an end without its addresses, which may change.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    config: Config,
    /// Whether other ends are looked for in the local network, and listened to there.
    pub(crate) scouts: bool,
    /// The routers of which this end has one at a time, as a client: another for each attempt.
    routers: Vec<String>,
}

/// A key of the configuration does not take a value, or the file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("cannot use config={file}: {problem}")]
    File { file: String, problem: String },
    #[error("Zenoh does not take {key}={value}: {problem}")]
    Value { key: &'static str, value: String, problem: String },
}

impl Settings {
    /// Reads the configuration that the port names, and adds what its keys say.
    ///
    /// Without a file, an end that only connects is a client: it listens nowhere. One that listens is a
    /// router for others. One that does neither finds the others by multicast.
    pub(crate) fn new(spec: &TrunkSpec) -> Result<Self, SettingsError> {
        let mut settings = match &spec.config {
            Some(file) => Self {
                config: Config::from_file(file).map_err(|error| SettingsError::File {
                    file: file.display().to_string(),
                    problem: reason(&error),
                })?,
                scouts: false,
                routers: Vec::new(),
            },
            None => Self::without_file(spec)?,
        };
        if !spec.connect.is_empty() {
            settings.set("connect/endpoints", &list(&spec.connect))?;
        }
        if !spec.listen.is_empty() {
            settings.set("listen/endpoints", &list(&spec.listen))?;
        }
        Ok(settings)
    }

    fn without_file(spec: &TrunkSpec) -> Result<Self, SettingsError> {
        let scouts = spec.connect.is_empty() && spec.listen.is_empty();
        let routers = if spec.listen.is_empty() { spec.connect.clone() } else { Vec::new() };
        let mut settings = Self { config: Config::default(), scouts, routers };
        let mode = match (scouts, spec.listen.is_empty()) {
            (true, _) => "\"peer\"",
            (_, false) => "\"router\"",
            (_, true) => "\"client\"",
        };
        for (key, value) in [
            ("mode", mode),
            // Nothing is listened to that is not asked for.
            ("listen/endpoints", "[]"),
            ("scouting/multicast/enabled", if scouts { "true" } else { "false" }),
            ("connect/retry", RETRY),
            ("transport/link/tx/lease", LEASE),
            ("transport/link/tx/queue/congestion_control/block/wait_before_close", MAX_BLOCK),
            ("transport/link/rx/max_message_size", MAX_MESSAGE),
            ("connect/timeout_ms", if mode == "\"client\"" { CONNECT_TIMEOUT } else { "-1" }),
        ] {
            settings.set(key, value)?;
        }
        Ok(settings)
    }

    fn set(&mut self, key: &'static str, value: &str) -> Result<(), SettingsError> {
        self.config.insert_json5(key, value).map_err(|error| SettingsError::Value {
            key,
            value: value.to_owned(),
            problem: reason(&error),
        })
    }

    /// Returns whether this end is one that has a router, or nothing.
    pub(crate) fn is_client(&self) -> bool {
        !self.routers.is_empty()
    }

    /// Returns the configuration for an attempt of an end whose machine has the address `local` towards
    /// the others.
    pub(crate) fn config(&self, local: Option<IpAddr>, attempt: usize) -> Config {
        let mut settings = self.clone();
        if let Some(router) = self.routers.get(attempt % self.routers.len().max(1))
            && let Err(error) =
                settings.set("connect/endpoints", &list(std::slice::from_ref(router)))
        {
            tracing::info!(%error, "all routers are tried in one attempt");
        }
        if let Some(local) = local.filter(|_| self.scouts) {
            let endpoint = std::net::SocketAddr::new(local, 0);
            if let Err(error) =
                settings.set("listen/endpoints", &list(&[format!("tcp/{endpoint}")]))
            {
                tracing::info!(%error, "other ends cannot connect to this one");
            }
        }
        settings.config
    }

    /// Returns the endpoints that this end connects to or listens at, as Zenoh writes them.
    pub(crate) fn endpoints(&self, key: &str) -> Vec<String> {
        let json = self.config.get_json(key).unwrap_or_default();
        json.split('"').filter(|part| part.contains('/')).map(str::to_owned).collect()
    }
}

/// Returns what Zenoh says of an error, without the place in its sources.
pub(crate) fn reason(error: &zenoh::Error) -> String {
    let text = error.to_string();
    text.split(" at /").next().unwrap_or_default().trim_end_matches([' ', '!']).to_owned()
}

/// Writes a list of endpoints. Quotes are escaped; control characters are, too, in a way that Zenoh does
/// not take.
fn list(endpoints: &[String]) -> String {
    let quoted: Vec<String> = endpoints.iter().map(|endpoint| format!("{endpoint:?}")).collect();
    format!("[{}]", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, String> {
        Settings::new(&text.parse().expect(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_keys_say_what_an_end_is() {
        for (text, mode, connect, listen) in [
            ("lab", "peer", &[][..], &[][..]),
            ("lab,connect=tcp/192.0.2.1:7447", "client", &["tcp/192.0.2.1:7447"], &[]),
            ("lab,listen=tcp/[::1]:7447", "router", &[], &["tcp/[::1]:7447"]),
            (
                "lab,listen=tcp/[::1]:7447,connect=tcp/a:1,tcp/b:2",
                "router",
                &["tcp/a:1", "tcp/b:2"],
                &["tcp/[::1]:7447"],
            ),
        ] {
            let settings = settings(text).expect(text);
            assert_eq!(settings.config.get_json("mode").unwrap(), format!("{mode:?}"), "{text}");
            assert_eq!(settings.endpoints("connect/endpoints"), connect, "{text}");
            assert_eq!(settings.endpoints("listen/endpoints"), listen, "{text}");
            assert_eq!(settings.scouts, mode == "peer");
        }
        let scouting = settings("lab").unwrap().config(Some([192, 0, 2, 1].into()), 0);
        assert!(scouting.get_json("listen/endpoints").unwrap().contains("tcp/192.0.2.1:0"));
        let of_two = settings("lab,connect=tcp/a:1,tcp/b:2").unwrap();
        assert!(of_two.is_client());
        let routers =
            [0, 1, 2].map(|attempt| of_two.config(None, attempt).get_json("connect/endpoints"));
        assert_eq!(
            routers.map(Result::unwrap),
            [r#"["tcp/a:1"]"#, r#"["tcp/b:2"]"#, r#"["tcp/a:1"]"#]
        );
    }

    #[test]
    fn what_zenoh_does_not_take_is_named() {
        let error = settings("lab,connect=tcp/x\u{1}y:1").unwrap_err();
        assert!(error.contains("connect/endpoints"), "{error}");
        // A quote does not end the text: what follows is no key.
        let quoted = settings("lab,connect=tcp/a:1\"]mode:\"router").unwrap();
        assert_eq!(quoted.config.get_json("mode").unwrap(), "\"client\"");
        let error = settings("lab,config=/nowhere/trunk.json5").unwrap_err();
        assert!(error.contains("cannot use config=/nowhere/trunk.json5"), "{error}");
    }
}

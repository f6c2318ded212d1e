//! Why a text is no port.

/// The kinds of port, as they are written.
pub(crate) const KINDS: [&str; 4] = ["memif", "tap", "pcap", "bus"];

/// A text that is no port.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePortError {
    /// There is no colon behind a kind.
    #[error("a port is written KIND:key=value,... such as memif:role=server,id=0,socket=./memif.sock")]
    NoKind,
    /// No such kind.
    #[error("there is no kind of port called '{kind}'{hint}; there is: {}", KINDS.join(", "))]
    Kind {
        /// What was written.
        kind: String,
        /// What may have been meant.
        hint: String,
    },
    /// A part without `=`.
    #[error("'{0}' is not key=value")]
    NoValue(String),
    /// No such key.
    #[error("a {kind} port has no key '{key}'{hint}")]
    Key {
        /// The kind of port.
        kind: &'static str,
        /// What was written.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A key that cannot be left out.
    #[error("a {kind} port needs {what}")]
    Missing {
        /// The kind of port.
        kind: &'static str,
        /// The key, and what it is for.
        what: &'static str,
    },
    /// The key is there twice.
    #[error("'{0}' is given twice")]
    Twice(String),
    /// A value that the key cannot have.
    #[error("{key}={value}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// Its value; not shown for secrets.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
}

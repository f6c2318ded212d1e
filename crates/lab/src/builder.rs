//! Plans made in Rust, with the keys of lab files.

use std::fmt::Write as _;
use std::path::Path;

use toml::Value;

use crate::error::LabError;
use crate::file::{FileError, Problems, Source};
use crate::lab::Lab;
use crate::plan::Plan;

/// Makes a lab without a file.
///
/// LANs, links, nodes and checks have the keys of a lab file, and all that a file leaves out is
/// decided in the same way: addresses, names of interfaces, conditions. Texts are templates as there.
///
/// ```
/// use lab::{Lab, Section};
///
/// let plan = Lab::builder("two-networks")
///     .lan("left", Section::new().set("prefix", "10.1.0.0/24"))
///     .link("right", ["router", "far"], Section::new().set("prefix", "10.2.0.0/30"))
///     .node("router", Section::new().set("lans", "left").set("forward", true))
///     .node("near", Section::new().set("lans", "left"))
///     .node("far", Section::new().set("kind", "host"))
///     .check(Section::new().set("node", "router").set("exec", "ping -c 1 far"))
///     .plan()?;
/// assert_eq!(plan.nodes[2].interfaces[0].addresses, ["10.2.0.2/30".parse().unwrap()]);
/// # Ok::<(), lab::file::Problems>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    /// The lab file so far.
    text: String,
}

/// The keys of a LAN, a link, a node or a check, as in a lab file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    keys: Vec<(String, Value)>,
}

impl Section {
    /// Begins without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key to a text, a number, a truth value, an array of them, or another section.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.keys.push((key.to_owned(), value.into()));
        self
    }

    /// Adds impairments such as `delay=20ms,loss=1%`.
    #[must_use]
    pub fn impair(self, impairments: &str) -> Self {
        let pairs = impairments.split(',').filter(|pair| !pair.is_empty());
        pairs.fold(self, |section, pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            section.set(key, value)
        })
    }
}

impl From<Section> for Value {
    fn from(section: Section) -> Self {
        Self::Table(section.keys.into_iter().collect())
    }
}

impl Lab {
    /// Begins a lab that is described in Rust: it has nothing but a name.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder { text: format!("name = {}\n", quoted(name)) }
    }
}

impl Builder {
    /// Adds a LAN.
    #[must_use]
    pub fn lan(self, name: &str, keys: Section) -> Self {
        self.add("lan", name, keys)
    }

    /// Adds a link between two nodes, each a name, or `NODE:INTERFACE`.
    #[must_use]
    pub fn link(self, name: &str, ends: [&str; 2], keys: Section) -> Self {
        self.add("link", name, keys.set("ends", ends.to_vec()))
    }

    /// Adds a node: a namespace, unless the key `kind` says otherwise.
    #[must_use]
    pub fn node(self, name: &str, keys: Section) -> Self {
        self.add("node", name, keys)
    }

    /// Adds a check, which follows those before it.
    #[must_use]
    pub fn check(self, keys: Section) -> Self {
        self.write("[[check]]", keys)
    }

    fn add(self, what: &str, name: &str, keys: Section) -> Self {
        self.write(&format!("[{what}.{}]", quoted(name)), keys)
    }

    fn write(mut self, head: &str, keys: Section) -> Self {
        let _ = writeln!(self.text, "\n{head}");
        for (key, value) in keys.keys {
            let _ = writeln!(self.text, "{} = {value}", quoted(&key));
        }
        self
    }

    /// Returns the lab file that says the same.
    #[must_use]
    pub fn to_toml(&self) -> &str {
        &self.text
    }

    /// Returns the plan.
    ///
    /// # Errors
    /// All that is wrong, with line and column of [`to_toml`](Self::to_toml).
    pub fn plan(&self) -> Result<Plan, Problems> {
        Plan::from_toml(&self.text, &Source::new())
    }

    /// Starts the lab, as [`Lab::start`] does.
    ///
    /// # Errors
    /// As for [`plan`](Self::plan) and [`Lab::start`].
    pub fn start(&self) -> Result<Lab, LabError> {
        Lab::start(&self.plan().map_err(FileError::from)?)
    }

    /// As [`start`](Self::start), with the program `busctl` at this path.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_by(&self, program: &Path) -> Result<Lab, LabError> {
        Lab::start_by(program, &self.plan().map_err(FileError::from)?)
    }
}

/// Returns a name as a key of a lab file, whatever letters it has.
fn quoted(name: &str) -> String {
    let escape = |letter: char| match letter {
        '"' | '\\' => format!("\\{letter}"),
        control if control.is_control() => format!("\\u{:04X}", u32::from(control)),
        other => other.to_string(),
    };
    format!("\"{}\"", name.chars().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_of_the_builder_is_that_of_a_file() {
        let text = "name = \"x\"\n[lan.a]\nprefix = \"10.1.0.0/24\"\ndelay = \"20ms\"\nloss = \"1%\"\n\
                    [link.w]\nends = [\"n\", \"m\"]\nprefix = \"10.2.0.0/30\"\n\
                    [node.n]\nlans = [\"a\"]\nenv.LANG = \"C\"\n[node.m]\nkind = \"host\"\n\
                    [[check]]\nnode = \"n\"\nping = \"m\"\n[[check]]\nset = \"w\"\npartition = \"on\"\n";
        let of_file = Plan::from_toml(text, &Source::new()).unwrap();
        let prefix = |prefix: &str| Section::new().set("prefix", prefix);
        let builder = Lab::builder("x")
            .lan("a", prefix("10.1.0.0/24").impair("delay=20ms,loss=1%"))
            .link("w", ["n", "m"], prefix("10.2.0.0/30"))
            .node(
                "n",
                Section::new().set("lans", vec!["a"]).set("env", Section::new().set("LANG", "C")),
            )
            .node("m", Section::new().set("kind", "host"))
            .check(Section::new().set("node", "n").set("ping", "m"))
            .check(Section::new().set("set", "w").impair("partition=on"));
        assert_eq!(builder.plan().unwrap(), of_file);
        let wrong = Lab::builder("x").node("n", Section::new().set("lan", "a")).plan();
        assert!(wrong.unwrap_err().to_string().contains("did you mean 'lans'?"));
    }
}

//! What a lab file is read with: its path, the environment, and the rules of impairments.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The longest file, and the longest template beside it, in bytes.
pub(super) const MAX_TEXT: usize = 4 << 20;

/// Judges the impairments of a link, such as `delay=20ms,loss=1%`: `Err` says what is wrong.
pub type ImpairmentRule = fn(&str) -> Result<(), String>;

/// What a lab file is read with.
///
/// ```
/// use lab::Plan;
/// use lab::file::Source;
///
/// let text = "[lan.office]\nprefix = \"10.1.0.0/24\"\n[node.web]\nlans = \"office\"\n";
/// let plan = Plan::from_toml(text, &Source::new().path("first.toml"))?;
/// assert_eq!(plan.name, "first");
/// assert_eq!(plan.nodes[0].interfaces[0].addresses, ["10.1.0.1/24".parse().unwrap()]);
/// # Ok::<(), lab::file::Problems>(())
/// ```
#[derive(Clone)]
pub struct Source {
    path: Option<PathBuf>,
    vars: BTreeMap<String, String>,
    impairments: ImpairmentRule,
}

impl Source {
    /// Returns what a text is read with that is in no file, without variables.
    #[must_use]
    pub fn new() -> Self {
        Self { path: None, vars: BTreeMap::new(), impairments: of_ports }
    }

    /// Sets where the file is. Relative paths in it begin in its folder.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Sets the environment variables that templates see as `env.NAME`.
    #[must_use]
    pub fn vars(mut self, vars: impl IntoIterator<Item = (String, String)>) -> Self {
        self.vars = vars.into_iter().collect();
        self
    }

    /// Sets what judges impairments. Without it they are what ports take.
    #[must_use]
    pub fn impairments(mut self, rule: ImpairmentRule) -> Self {
        self.impairments = rule;
        self
    }

    /// Where the file is.
    pub(super) fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The environment variables.
    pub(super) fn environment(&self) -> &BTreeMap<String, String> {
        &self.vars
    }

    /// Judges impairments.
    pub(super) fn judge(&self, impairments: &str) -> Result<(), String> {
        (self.impairments)(impairments)
    }

    /// Returns the name of a lab without a name: that of the file, without what a name cannot have.
    pub(super) fn default_name(&self) -> String {
        let stem = self.path.as_ref().and_then(|path| path.file_stem()).unwrap_or_default();
        let stem = stem.to_string_lossy();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name: String =
            stem.chars().map(|c| if allowed(c) { c } else { '-' }).take(64).collect();
        let name = name.trim_start_matches(['-', '.']);
        if name.is_empty() { "lab".to_owned() } else { name.to_owned() }
    }

    /// Returns an absolute path for one of the file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        let folder = self.path.as_ref().and_then(|path| path.parent());
        // A file that is named without its folder is in this one.
        let folder = folder.filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let joined = folder.join(path);
        std::path::absolute(&joined).unwrap_or(joined)
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The variables may be secrets.
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The rule without another: ports take them.
fn of_ports(impairments: &str) -> Result<(), String> {
    let parsed: Result<port::Impairments, _> = impairments.parse();
    parsed.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_has_the_name_of_its_file() {
        assert_eq!(Source::new().path("a/two-routers.toml").default_name(), "two-routers");
        assert_eq!(Source::new().path("a/my lab!.toml").default_name(), "my-lab-");
        assert_eq!(Source::new().path("..").default_name(), "lab");
        assert_eq!(Source::new().default_name(), "lab");
    }

    #[test]
    fn a_file_without_a_folder_is_in_this_one() {
        let here = std::env::current_dir().unwrap();
        let source = Source::new().path("first.toml");
        assert_eq!(source.resolve("").canonicalize().unwrap(), here.canonicalize().unwrap());
        assert_eq!(source.resolve("bird.conf.j2"), here.join("bird.conf.j2"));
    }

    #[test]
    fn relative_paths_begin_beside_the_file() {
        let source = Source::new().path("/labs/x.toml");
        assert_eq!(source.resolve("vm/kernel"), Path::new("/labs/vm/kernel"));
        assert_eq!(source.resolve("/boot/vmlinuz"), Path::new("/boot/vmlinuz"));
    }

    #[test]
    fn impairments_are_what_ports_take() {
        assert_eq!(of_ports("delay=10ms,out.loss=1%"), Ok(()));
        assert!(of_ports("delya=10ms").is_err());
        assert!(of_ports("delay=").is_err());
    }
}

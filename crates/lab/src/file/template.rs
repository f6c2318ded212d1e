//! Texts that are computed: `{{ name }}`, with the values of the lab.

use std::cell::Cell;
use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};

use super::problem::Found;

/// What one template may compute: instructions and bytes, in units of the engine.
const FUEL: u64 = 2_000_000;

/// How many bytes all templates of a lab may become.
const MAX_RENDERED: usize = 64 << 20;

/// Renders the templates of a lab file.
#[derive(Debug)]
pub(super) struct Templates {
    engine: Environment<'static>,
    rendered: Cell<usize>,
}

/// Where the text of a template is.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// In the lab file, at this span.
    Here(Range<usize>),
    /// In a file of this name, which the span names.
    File(&'a str, Range<usize>),
}

impl Templates {
    /// Returns an engine without templates.
    pub(super) fn new() -> Self {
        let mut engine = Environment::new();
        engine.set_undefined_behavior(UndefinedBehavior::Strict);
        engine.set_fuel(Some(FUEL));
        // The usual mark of a comment, `{#`, is in `${#list}` of a shell, too.
        let mut syntax = SyntaxConfig::builder();
        syntax.comment_delimiters("{##", "##}").trim_blocks(true).lstrip_blocks(true);
        if let Ok(syntax) = syntax.keep_trailing_newline(true).build() {
            engine.set_syntax(syntax);
        }
        Self { engine, rendered: Cell::new(0) }
    }

    /// Returns a text with all templates in it computed, or `None` with a problem added.
    pub(super) fn render(
        &self,
        text: &str,
        scope: &Value,
        place: &Place<'_>,
        found: &Found<'_>,
    ) -> Option<String> {
        if !["{{", "{%", "{##"].iter().any(|mark| text.contains(mark)) {
            return Some(text.to_owned());
        }
        match self.engine.render_str(text, scope.clone()) {
            Ok(rendered) => {
                self.rendered.set(self.rendered.get().saturating_add(rendered.len()));
                if self.rendered.get() <= MAX_RENDERED {
                    return Some(rendered);
                }
                let message = "the templates of the lab become more than 64 MiB";
                report(place, text, 1, message, None, found);
            }
            Err(error) => {
                let line = error.line().unwrap_or(1).max(1);
                let (message, suggestion) = explain(&error, text, scope);
                report(place, text, line, &message, suggestion, found);
            }
        }
        None
    }
}

/// Adds a problem in a line of a template.
fn report(
    place: &Place<'_>,
    text: &str,
    line: usize,
    message: &str,
    suggestion: Option<String>,
    found: &Found<'_>,
) {
    match place {
        Place::Here(span) => {
            let (first, column) = found.position(span.start);
            let source = found.source(span);
            let is_block = source.starts_with("\"\"\"") || source.starts_with("'''");
            if is_block && text.contains('\n') {
                // The text begins in the next line if the quotes are the last in theirs.
                let quotes = source.get(3..).unwrap_or_default();
                let begins = usize::from(quotes.starts_with(['\n', '\r']));
                let column = if line == 1 && begins == 0 { column } else { 1 };
                found.add_at(first + begins + line - 1, column, message, suggestion);
            } else {
                found.add_at(first, column, message, suggestion);
            }
        }
        Place::File(name, span) => {
            let (at, column) = found.position(span.start);
            found.add_at(at, column, &format!("{name}, line {line}: {message}"), suggestion);
        }
    }
}

/// Says what is wrong with a template, and which word was probably meant.
fn explain(error: &Error, text: &str, scope: &Value) -> (String, Option<String>) {
    let source = error.range().map(|range| whole_path(text, range)).unwrap_or_default().trim();
    match error.kind() {
        ErrorKind::UndefinedError => {
            let path = undefined(source, scope);
            let suggestion = path.as_ref().and_then(|(parent, name)| {
                let names: Vec<String> = parent
                    .try_iter()
                    .ok()?
                    .filter_map(|key| key.as_str().map(str::to_owned))
                    .collect();
                port::suggest::closest(name, names)
            });
            let message = match source.strip_prefix("env.") {
                Some(name) => format!(
                    "the environment variable {name} is not set; set it, or give a default, as in \
                     {{{{ env.{name} | default(\"...\") }}}}"
                ),
                None if source.is_empty() => "the template uses something undefined".to_owned(),
                None => format!("the template uses '{source}', which is not defined"),
            };
            (message, suggestion)
        }
        ErrorKind::OutOfFuel => ("the template computes for too long".to_owned(), None),
        kind => {
            let what = error.detail().map_or_else(|| kind.to_string(), str::to_owned);
            let at = if source.is_empty() { String::new() } else { format!(" at '{source}'") };
            (format!("the template is wrong{at}: {what}"), None)
        }
    }
}

/// Returns a part of a template with the path before it: an error at `.address` in
/// `node.r1.address` is one of all of it.
fn whole_path(text: &str, part: Range<usize>) -> &str {
    let before = text.get(..part.start).unwrap_or_default();
    let in_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let begins_in_path = text.get(part.start..).is_some_and(|part| part.starts_with(['.', '[']));
    let start = if begins_in_path { before.trim_end_matches(in_path).len() } else { part.start };
    text.get(start..part.end).unwrap_or_default()
}

/// Returns the table that lacks a part of `source`, a path such as `node.r7.address`, and that part.
fn undefined(source: &str, scope: &Value) -> Option<(Value, String)> {
    let mut parent = scope.clone();
    for part in source.split('.') {
        let value = parent.get_attr(part).ok()?;
        if value.is_undefined() {
            return Some((parent, part.to_owned()));
        }
        parent = value;
    }
    None
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    fn render(text: &str) -> Result<String, Vec<String>> {
        let found = Found::new(text);
        let scope =
            context! { name => "r1", node => context! { r1 => 1, web => 2 }, env => context! {} };
        Templates::new()
            .render(text, &scope, &Place::Here(0..text.len()), &found)
            .ok_or_else(|| found.into_list().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn templates_are_rendered_and_shell_is_left_alone() {
        assert_eq!(render("{{ name }}-{{ 1 + 1 }}\n").unwrap(), "r1-2\n");
        assert_eq!(render("echo ${#list} $1").unwrap(), "echo ${#list} $1");
        assert_eq!(render("echo ${#list} {{ name }}").unwrap(), "echo ${#list} r1");
        assert_eq!(render("{% if 1 == 1 %}\nyes\n{% endif %}\n").unwrap(), "yes\n");
    }

    #[test]
    fn what_is_undefined_is_named() {
        assert_eq!(
            render("{{ nmae }}").unwrap_err(),
            ["1:1: the template uses 'nmae', which is not defined (did you mean 'name'?)"]
        );
        assert_eq!(
            render("{{ node.wbe }}").unwrap_err(),
            ["1:1: the template uses 'node.wbe', which is not defined (did you mean 'web'?)"]
        );
        assert_eq!(
            render("{{ env.KERNEL }}").unwrap_err(),
            ["1:1: the environment variable KERNEL is not set; set it, or give a default, as in \
              {{ env.KERNEL | default(\"...\") }}"]
        );
        assert_eq!(render("{{ env.KERNEL | default('x') }}").unwrap(), "x");
    }

    #[test]
    fn endless_templates_end() {
        let text = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        assert_eq!(render(text).unwrap_err(), ["1:1: the template computes for too long"]);
        assert!(render("{{ 'x' * 99999999999 }}").is_err());
        assert!(render("{{ name").is_err());
    }
}

//! Checks that a file has the keys and the types of values that [`shape`](super::shape) lists.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Found;
use super::shape::{FILE, Form, IMPAIRMENTS, Keys};

/// A value of a file with its place.
pub(super) type Cell<'i> = Spanned<DeValue<'i>>;

/// Adds what is wrong with keys and types of values in a whole file.
pub(super) fn check(file: &DeTable<'_>, found: &Found<'_>) {
    check_table(file, &FILE, found);
}

/// Returns whether a value is one of a form, as far as its type says.
pub(super) fn is(value: &DeValue<'_>, form: &Form) -> bool {
    match form {
        Form::Text | Form::Word(_) => value.is_str(),
        Form::Bool => value.is_bool() || is_template(value),
        Form::Integer => value.is_integer() || is_template(value),
        Form::Scalar => value.is_str() || value.is_integer() || value.is_float() || value.is_bool(),
        Form::List(_) => value.is_array(),
        Form::Some(item) => value.is_array() || is(value, item),
        Form::TextOr(_) => value.is_str() || value.is_table(),
        Form::Table(_) | Form::Map(_) => value.is_table(),
    }
}

/// Returns whether a value is a text that becomes something else.
fn is_template(value: &DeValue<'_>) -> bool {
    value.as_str().is_some_and(|text| text.contains("{{") || text.contains("{%"))
}

fn check_table(table: &DeTable<'_>, keys: &Keys, found: &Found<'_>) {
    for (name, cell) in table {
        let word = name.get_ref().as_ref();
        if let Some(key) = keys.allowed().find(|key| key.name == word) {
            check_value(cell, word, &key.form, found);
        } else if keys.impairs && is_impairment(word) {
            check_impairment(cell, word, found);
        } else if keys.impairs && matches!(word, "in" | "out") {
            check_direction(cell, word, found);
        } else {
            unknown_key(name.span(), word, keys, found);
        }
    }
}

fn check_value(cell: &Cell<'_>, name: &str, form: &Form, found: &Found<'_>) {
    let value = cell.get_ref();
    if !is(value, form) {
        let message = format!("'{name}' takes {}, and this is {}", wanted(form), kind(value));
        found.add(&cell.span(), message);
        return;
    }
    match (form, value) {
        (Form::List(item) | Form::Some(item), DeValue::Array(array)) => {
            for cell in array {
                check_value(cell, name, item, found);
            }
        }
        (Form::Some(item), _) => check_value(cell, name, item, found),
        (Form::Word(words), DeValue::String(text))
            if !is_template(value) && !words.contains(&text.as_ref()) =>
        {
            let message = format!("'{name}' takes {}, and not '{text}'", wanted(form));
            found.add_mistyped(&cell.span(), message, text, *words);
        }
        (Form::TextOr(keys) | Form::Table(keys), DeValue::Table(table)) => {
            check_table(table, keys, found);
        }
        (Form::Map(item), DeValue::Table(table)) => {
            for (name, cell) in table {
                check_value(cell, name.get_ref(), item, found);
            }
        }
        _ => {}
    }
}

fn check_impairment(cell: &Cell<'_>, name: &str, found: &Found<'_>) {
    let value = cell.get_ref();
    if !is(value, &Form::Scalar) {
        let message = format!("'{name}' takes a text or a number, and this is {}", kind(value));
        found.add(&cell.span(), message);
    }
}

/// Checks the impairments of one direction: `in.delay = "10ms"`.
fn check_direction(cell: &Cell<'_>, direction: &str, found: &Found<'_>) {
    let Some(table) = cell.get_ref().as_table() else {
        let example = format!("{direction}.delay = \"10ms\"");
        found.add(&cell.span(), format!("'{direction}' takes a table, as in {example}"));
        return;
    };
    for (name, cell) in table {
        let word = name.get_ref().as_ref();
        if is_impairment(word) {
            check_impairment(cell, word, found);
        } else {
            let known = IMPAIRMENTS.iter().map(|(word, _)| *word);
            found.add_mistyped(&name.span(), format!("no impairment is '{word}'"), word, known);
        }
    }
}

/// Returns whether a key is the word of an impairment, with or without its direction.
pub(super) fn is_impairment(word: &str) -> bool {
    let plain = word.strip_prefix("in.").or_else(|| word.strip_prefix("out.")).unwrap_or(word);
    IMPAIRMENTS.iter().any(|(known, _)| *known == plain)
}

fn unknown_key(span: Range<usize>, word: &str, keys: &Keys, found: &Found<'_>) {
    if keys.is_layer && keys.list.iter().any(|key| key.name == word) {
        let message = format!("'{word}' is for each one alone: {} do not have it", keys.title);
        found.add(&span, message);
        return;
    }
    let impairments = IMPAIRMENTS.iter().filter(|_| keys.impairs).map(|(word, _)| *word);
    let known = keys.allowed().map(|key| key.name).chain(impairments);
    let have = if keys.is_layer { "have" } else { "has" };
    found.add_mistyped(&span, format!("{} {have} no key '{word}'", keys.title), word, known);
}

/// What a form takes, in words.
fn wanted(form: &Form) -> String {
    match form {
        Form::Text => "a text in quotes".to_owned(),
        Form::Bool => "true or false".to_owned(),
        Form::Integer => "an integer".to_owned(),
        Form::Scalar => "a text, a number, or true or false".to_owned(),
        Form::Word(words) => {
            let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            words.join(" or ")
        }
        Form::List(_) => "a list in brackets".to_owned(),
        Form::Some(item) => format!("{}, or a list", wanted(item)),
        Form::TextOr(_) => "a text in quotes, or a table".to_owned(),
        Form::Table(_) | Form::Map(_) => "a table".to_owned(),
    }
}

/// What a value is, in words.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let found = Found::new(text);
        let file = DeTable::parse(text).unwrap();
        check(file.get_ref(), &found);
        found.into_list().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keys_and_types_are_checked_everywhere() {
        let text = "name = 3\n\
                    [lan.a]\nprefx = \"10.0.0.0/24\"\ndelay = []\nin.los = 1\n\
                    [node.b]\nkind = \"hots\"\nexec = [1]\nforward = \"yes\"\n\
                    services = [{ rnu = \"x\" }]\n\
                    [defaults.run]\ncount = 3\n";
        assert_eq!(
            problems(text),
            [
                "1:8: 'name' takes a text in quotes, and this is an integer",
                "3:1: a LAN has no key 'prefx' (did you mean 'prefix'?)",
                "4:9: 'delay' takes a text or a number, and this is a list",
                "5:4: no impairment is 'los' (did you mean 'loss'?)",
                "7:8: 'kind' takes \"run\" or \"host\" or \"memif\" or \"vm\" or \"internet\" or \
                 \"rump\" or \"process\" or \"bus\" or \"pcap\", and not 'hots' (did you mean 'host'?)",
                "8:9: 'exec' takes a text in quotes, and this is an integer",
                "9:11: 'forward' takes true or false, and this is a text",
                "10:15: a service has no key 'rnu' (did you mean 'run'?)",
                "12:1: 'count' is for each one alone: keys for nodes do not have it",
            ]
        );
    }

    #[test]
    fn a_template_may_become_a_number() {
        assert_eq!(
            problems("[node.a]\ncount = \"{{ env.N }}\"\ntcp-sink = \"{{ 7 }}\"\n"),
            [""; 0]
        );
    }
}

//! The JSON schema of a lab file, for editors and other programs.
//!
//! It is made of the same list of keys that files are checked against, so that both are the same.

use serde_json::{Map, Value, json};

use crate::file::shape::{FILE, Form, IMPAIRMENTS, Key, Keys};

/// Returns the JSON schema of a lab file (draft 2020-12).
///
/// It says which keys there are and of which types. What depends on other parts of a file, such as
/// whether a LAN of a name exists, only reading the file says.
///
/// ```
/// let schema = lab::schema();
/// assert_eq!(schema["properties"]["node"]["type"], "object");
/// ```
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let file = table(&FILE, &mut definitions);
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A lab of busctl",
        "$defs": definitions,
    });
    if let (Some(schema), Value::Object(file)) = (schema.as_object_mut(), file) {
        schema.extend(file);
    }
    schema
}

/// Returns the schema of a table.
fn table(keys: &Keys, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in keys.allowed() {
        properties.insert(key.name.to_owned(), described(key, definitions));
    }
    let mut schema = json!({
        "type": "object",
        "description": sentence(keys.title),
        "additionalProperties": false,
    });
    if keys.impairs {
        let words = impairments();
        for direction in ["in", "out"] {
            let text = format!(
                "Impairments of one direction: frames that {}.",
                match direction {
                    "in" => "come from the node",
                    _ => "go to the node",
                }
            );
            properties.insert(
                direction.to_owned(),
                json!({
                    "type": "object",
                    "description": text,
                    "properties": words,
                    "additionalProperties": false,
                }),
            );
        }
        properties.extend(words);
        let names: Vec<&str> = IMPAIRMENTS.iter().map(|(word, _)| *word).collect();
        let pattern = format!("^(in|out)\\.({})$", names.join("|"));
        schema["patternProperties"] = json!({ pattern: { "type": SCALAR } });
    }
    schema["properties"] = Value::Object(properties);
    schema
}

/// The types of plain values.
const SCALAR: [&str; 4] = ["string", "integer", "number", "boolean"];

/// Returns the schemas of the words of impairments.
fn impairments() -> Map<String, Value> {
    let words = IMPAIRMENTS.iter();
    words
        .map(|(word, says)| ((*word).to_owned(), json!({ "type": SCALAR, "description": says })))
        .collect()
}

/// Returns the schema of a key's value, with what it means.
fn described(key: &Key, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = form(&key.form, definitions);
    let kinds: Vec<&str> = key.kinds.iter().map(|kind| kind.word()).collect();
    let says = if kinds.is_empty() {
        key.says.to_owned()
    } else {
        format!("{} For nodes of the kinds {}.", key.says, kinds.join(", "))
    };
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".to_owned(), Value::String(says));
    }
    schema
}

fn form(wanted: &Form, definitions: &mut Map<String, Value>) -> Value {
    match wanted {
        Form::Text => json!({ "type": "string" }),
        // A template is a text, whatever it becomes.
        Form::Bool => json!({ "type": ["boolean", "string"] }),
        Form::Integer => json!({ "type": ["integer", "string"] }),
        Form::Scalar => json!({ "type": SCALAR }),
        Form::Word(words) => {
            json!({ "anyOf": [{ "enum": words }, { "type": "string", "pattern": "\\{[{%]" }] })
        }
        Form::List(item) => json!({ "type": "array", "items": form(item, definitions) }),
        Form::Some(item) => {
            let item = form(item, definitions);
            json!({ "anyOf": [item, { "type": "array", "items": item }] })
        }
        Form::TextOr(keys) => {
            json!({ "anyOf": [{ "type": "string" }, reference(keys, definitions)] })
        }
        Form::Table(keys) => reference(keys, definitions),
        Form::Map(item) => {
            json!({ "type": "object", "additionalProperties": form(item, definitions) })
        }
    }
}

/// Returns a reference to the schema of a table, which is made once.
fn reference(keys: &Keys, definitions: &mut Map<String, Value>) -> Value {
    let name = keys.title.replace(' ', "-");
    if !definitions.contains_key(&name) {
        definitions.insert(name.clone(), Value::Null);
        let made = table(keys, definitions);
        definitions.insert(name.clone(), made);
    }
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// Returns a phrase as a sentence.
fn sentence(phrase: &str) -> String {
    let mut letters = phrase.chars();
    letters
        .next()
        .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), letters.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what of a file does not follow a schema, as far as this schema's words go.
    fn violations(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
        if let Some(name) = schema["$ref"].as_str() {
            let target = root.pointer(name.trim_start_matches('#')).expect("a definition");
            return violations(root, target, value, path);
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let all: Vec<_> = any.iter().map(|one| violations(root, one, value, path)).collect();
            let best = all.into_iter().min_by_key(Vec::len);
            return best.unwrap_or_default();
        }
        if let Some(words) = schema["enum"].as_array() {
            return if words.contains(value) {
                Vec::new()
            } else {
                vec![format!("{path}: {value}")]
            };
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.clone(),
            one => vec![one.clone()],
        };
        let kind = match value {
            Value::String(_) => "string",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_i64() => "integer",
            Value::Number(_) => "number",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Null => "null",
        };
        if !types.contains(&json!(kind)) {
            return vec![format!("{path}: {kind} is none of {types:?}")];
        }
        match value {
            Value::String(text) if schema["pattern"].is_string() && !text.contains("{{") => {
                vec![format!("{path}: {text} is no template")]
            }
            Value::Array(items) => items
                .iter()
                .flat_map(|item| violations(root, &schema["items"], item, path))
                .collect(),
            Value::Object(entries) => entries
                .iter()
                .flat_map(|(name, value)| {
                    let path = format!("{path}/{name}");
                    match schema["properties"].get(name).or(schema.get("additionalProperties")) {
                        None | Some(Value::Bool(_)) => vec![format!("{path} is unknown")],
                        Some(schema) => violations(root, schema, value, &path),
                    }
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn shipped_labs_follow_the_schema() {
        let root = schema();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/labs");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let file: Value = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
                assert_eq!(violations(&root, &root, &file, ""), [""; 0], "{}", path.display());
                seen += 1;
            }
        }
        assert!(seen >= 8);
    }

    #[test]
    fn what_is_wrong_does_not_follow_it() {
        let root = schema();
        for text in
            ["nod.x.lans = 1", "node.x.kind = \"hots\"", "lan.a.mtu = 1.5", "lan.a.in.x = 1"]
        {
            let file: Value = toml::from_str(text).unwrap();
            assert_eq!(violations(&root, &root, &file, "").len(), 1, "{text}");
        }
    }

    #[test]
    fn every_definition_is_complete() {
        let root = schema();
        let definitions = root["$defs"].as_object().unwrap();
        assert!(definitions.len() > 8 && definitions.values().all(Value::is_object));
        assert!(root["$defs"]["a-node"]["properties"]["forward"]["description"].is_string());
        assert!(root["$defs"]["keys-for-nodes"]["properties"].get("count").is_none());
    }
}

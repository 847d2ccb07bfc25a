//! OVSDB's notation of values (RFC 7047 section 5.1), read without trust.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A row's columns.
pub(super) struct Row<'a>(pub(super) &'a Value);

impl Row<'_> {
    pub(super) fn uuid(&self) -> Result<String, String> {
        self.column("_uuid").and_then(|value| tagged(value, "uuid"))
    }

    /// References; a set of one is written without its brackets.
    pub(super) fn uuids(&self, column: &str) -> Result<Vec<String>, String> {
        self.set(column)?.into_iter().map(|value| tagged(value, "uuid")).collect()
    }

    pub(super) fn string(&self, column: &str) -> Result<String, String> {
        self.optional_string(column).map(Option::unwrap_or_default)
    }

    pub(super) fn optional_string(&self, column: &str) -> Result<Option<String>, String> {
        match self.set(column)?.as_slice() {
            [] => Ok(None),
            [Value::String(text)] => Ok(Some(text.clone())),
            _ => Err(format!("column {column} is no string")),
        }
    }

    pub(super) fn optional_integer(&self, column: &str) -> Result<Option<i64>, String> {
        match self.set(column)?.as_slice() {
            [] => Ok(None),
            [value] => {
                value.as_i64().map(Some).ok_or_else(|| format!("column {column} is no integer"))
            }
            _ => Err(format!("column {column} is no single integer")),
        }
    }

    pub(super) fn integer(&self, column: &str) -> Result<i64, String> {
        self.optional_integer(column)?.ok_or_else(|| format!("column {column} is empty"))
    }

    pub(super) fn map(&self, column: &str) -> Result<BTreeMap<String, String>, String> {
        let wrong = || format!("column {column} is no map");
        let value = self.column(column)?;
        let Some([Value::String(tag), Value::Array(pairs)]) = value.as_array().map(Vec::as_slice)
        else {
            return Err(wrong());
        };
        if tag != "map" {
            return Err(wrong());
        }
        let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
            Some([Value::String(key), Value::String(value)]) => Ok((key.clone(), value.clone())),
            _ => Err(wrong()),
        };
        pairs.iter().map(pair).collect()
    }

    fn column(&self, column: &str) -> Result<&Value, String> {
        self.0.get(column).ok_or_else(|| format!("a row has no column {column}"))
    }

    fn set(&self, column: &str) -> Result<Vec<&Value>, String> {
        let value = self.column(column)?;
        Ok(match value.as_array().map(Vec::as_slice) {
            Some([Value::String(tag), Value::Array(atoms)]) if tag == "set" => {
                atoms.iter().collect()
            }
            _ => vec![value],
        })
    }
}

fn tagged(value: &Value, tag: &str) -> Result<String, String> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(found), Value::String(text)]) if found == tag => Ok(text.clone()),
        _ => Err(format!("{value} is no {tag}")),
    }
}

/// A set of references.
pub(super) fn uuid_set(uuids: &[String]) -> Value {
    let atoms: Vec<Value> = uuids.iter().map(|uuid| json!(["uuid", uuid])).collect();
    json!(["set", atoms])
}

/// A map of strings.
pub(super) fn map_value(map: &BTreeMap<String, String>) -> Value {
    let pairs: Vec<Value> = map.iter().map(|(key, value)| json!([key, value])).collect();
    json!(["map", pairs])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notations_of_sets_are_one() {
        let row = json!({"one": ["uuid", "a"], "two": ["set", [["uuid", "a"], ["uuid", "b"]]],
            "none": ["set", []], "n": 3, "s": "x"});
        let row = Row(&row);
        assert_eq!(row.uuids("one").unwrap(), ["a"]);
        assert_eq!(row.uuids("two").unwrap(), ["a", "b"]);
        assert!(row.uuids("none").unwrap().is_empty());
        assert_eq!(row.optional_integer("none").unwrap(), None);
        assert_eq!(row.integer("n").unwrap(), 3);
        assert_eq!(row.string("s").unwrap(), "x");
        assert_eq!(row.string("none").unwrap(), "");
    }

    #[test]
    fn nonsense_is_told_by_column() {
        let row = json!({"a": 1, "m": ["map", [["k"]]], "u": ["uuid"], "s": [["set"]]});
        let row = Row(&row);
        assert_eq!(row.string("a").unwrap_err(), "column a is no string");
        assert_eq!(row.map("m").unwrap_err(), "column m is no map");
        assert_eq!(row.map("a").unwrap_err(), "column a is no map");
        assert!(row.uuids("u").is_err());
        assert!(row.integer("s").is_err());
        assert_eq!(row.string("z").unwrap_err(), "a row has no column z");
    }
}

//! What [`serde_json::Value`] does not tell: a key that an object has twice. Readers differ in
//! which of the two they take, so such a text says nothing that can be relied on.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

/// The first key that is there twice in one object of a JSON text; none in what is no JSON.
pub(super) fn twice(text: &[u8]) -> Option<String> {
    let found = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let read = Search(&found).deserialize(&mut reader);
    // what stops the reading is the search itself, or JSON that others refuse by name
    drop(read);
    found.into_inner()
}

#[derive(Clone, Copy)]
struct Search<'a>(&'a RefCell<Option<String>>);

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                *self.0.borrow_mut() = Some(key);
                return Err(A::Error::custom("a key is there twice"));
            }
            keys.insert(key);
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_there_twice_is_found_at_any_depth() {
        for (text, key) in [
            (r#"{"a":1,"a":2}"#, Some("a")),
            (r#"{"a":[1.5,-1,null,true,"x",{"b":{},"b":[]}]}"#, Some("b")),
            (r#"{"a":{"a":1},"b":{"a":1e400}}"#, None),
            (r#"{"a":1,"\u0061":2}"#, Some("a")),
            ("{", None),
            ("", None),
        ] {
            assert_eq!(twice(text.as_bytes()).as_deref(), key, "{text}");
        }
        assert_eq!(twice("[".repeat(100_000).as_bytes()), None);
    }
}

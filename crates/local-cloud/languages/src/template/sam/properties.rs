//! The properties of a SAM resource, taken one by one, and the properties that they become.

use cloud_core::resource::Refusal;
use serde_json::{Map, Value};

use crate::template::document::object;
use crate::template::place::Place;

/// Refuses in the end what nobody has taken.
pub(super) struct Properties {
    given: Map<String, Value>,
    pub at: Place,
    of: String,
    out: Map<String, Value>,
}

impl Properties {
    pub fn new(given: Map<String, Value>, at: Place, of: &str) -> Self {
        Self { given, at, of: of.to_owned(), out: Map::new() }
    }

    /// Reads a mapping below a property.
    pub fn below(value: Value, at: Place, of: &str) -> Result<Self, Refusal> {
        Ok(Self::new(object(value, &at)?, at, of))
    }

    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.given.remove(key)
    }

    pub fn take_object(&mut self, key: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        let at = self.at.key(key);
        match self.take(key).map(|value| object(value, &at)).transpose()? {
            // SAM works on the template before any function is evaluated.
            Some(map) if is_function(&map) => {
                Err(at.refuse("must be a literal mapping: SAM evaluates no function here"))
            }
            map => Ok(map),
        }
    }

    pub fn require(&mut self, key: &str) -> Result<Value, Refusal> {
        self.take(key).ok_or_else(|| self.at.key(key).refuse(format!("is missing in {}", self.of)))
    }

    /// Takes those of these properties that are given.
    pub fn take_all(&mut self, keys: &[&str]) -> Map<String, Value> {
        keys.iter().filter_map(|key| Some(((*key).to_owned(), self.take(key)?))).collect()
    }

    pub fn set(&mut self, key: &str, value: Value) {
        self.out.insert(key.to_owned(), value);
    }

    /// Moves properties that keep their names.
    pub fn pass(&mut self, keys: &[&str]) {
        let passed = self.take_all(keys);
        self.out.extend(passed);
    }

    /// Moves a property to another name.
    pub fn rename(&mut self, key: &str, to: &str) {
        let value = self.take(key);
        self.out.extend(value.map(|value| (to.to_owned(), value)));
    }

    /// The properties that were set and moved.
    pub fn finish(self) -> Result<Map<String, Value>, Refusal> {
        match self.given.keys().next() {
            Some(key) => {
                Err(self.at.key(key).refuse(format!("is not a property of {}, or is not emulated", self.of)))
            }
            None => Ok(self.out),
        }
    }
}

/// A resource's own properties over the global ones: mappings are merged, lists are appended, any other value
/// is replaced.
pub(super) fn merged(global: &Map<String, Value>, own: Map<String, Value>) -> Map<String, Value> {
    let mut result = global.clone();
    for (key, value) in own {
        let value = match (result.remove(&key), value) {
            (Some(Value::Object(global)), Value::Object(own))
                if !is_function(&global) && !is_function(&own) =>
            {
                Value::Object(merged(&global, own))
            }
            (Some(Value::Array(mut global)), Value::Array(own)) => {
                global.extend(own);
                Value::Array(global)
            }
            (_, own) => own,
        };
        result.insert(key, value);
    }
    result
}

pub(super) fn is_function(map: &Map<String, Value>) -> bool {
    map.len() == 1 && map.keys().all(|key| key == "Ref" || key.starts_with("Fn::"))
}

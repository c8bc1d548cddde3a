//! A place in a template, which every refusal names.

use std::sync::Arc;

use cloud_core::resource::Refusal;
use serde_json::{Map, Value};

#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Relative to the project.
    pub file: Arc<str>,
    /// Inside the file, for example `Queue.Properties.Tags[0]`.
    pub path: String,
}

impl Place {
    /// The whole of a file.
    pub fn file(file: &str) -> Self {
        Self { file: file.into(), path: String::new() }
    }

    /// The same path in another file: the content of an `AWS::Include`.
    pub fn in_file(&self, file: &str) -> Self {
        Self { file: file.into(), path: self.path.clone() }
    }

    pub fn key(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { file: self.file.clone(), path }
    }

    pub fn item(&self, index: usize) -> Self {
        Self { file: self.file.clone(), path: format!("{}[{index}]", self.path) }
    }

    pub fn refuse(&self, reason: impl Into<String>) -> Refusal {
        let path = if self.path.is_empty() { "the whole file" } else { &self.path };
        Refusal { file: self.file.to_string(), path: path.to_owned(), reason: reason.into() }
    }

    /// Refuses, with `reason`, the first key of `map` that is not in `known`; the map is at this place.
    pub fn check_keys(&self, map: &Map<String, Value>, known: &[&str], reason: &str) -> Result<(), Refusal> {
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => Err(self.key(unknown).refuse(reason)),
            None => Ok(()),
        }
    }
}

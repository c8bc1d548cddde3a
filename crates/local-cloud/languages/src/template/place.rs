//! Where in which template something stands, so that every refusal names it.

use std::sync::Arc;

use cloud_core::resource::Refusal;

/// A file (relative to the project) and a path inside it (`Queue.Properties.Tags[0]`).
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub file: Arc<str>,
    pub path: String,
}

impl Place {
    /// The whole of a file.
    pub fn file(file: &str) -> Self {
        Self { file: file.into(), path: String::new() }
    }

    /// The same path, but in another file: the content of an `AWS::Include`.
    pub fn in_file(&self, file: &str) -> Self {
        Self { file: file.into(), path: self.path.clone() }
    }

    /// One key below.
    pub fn key(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { file: self.file.clone(), path }
    }

    /// One list item below.
    pub fn item(&self, index: usize) -> Self {
        Self { file: self.file.clone(), path: format!("{}[{index}]", self.path) }
    }

    /// A refusal at this place.
    pub fn refuse(&self, reason: impl Into<String>) -> Refusal {
        let path = if self.path.is_empty() { "the whole file" } else { &self.path };
        Refusal { file: self.file.to_string(), path: path.to_owned(), reason: reason.into() }
    }
}

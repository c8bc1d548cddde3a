//! A part of an OpenAPI document with its path. Its readers refuse what they do not know, by that path.

use std::fmt::Display;

use serde_json::{Map, Value};

/// Why a document is refused: the path in it, and one reason.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Invalid {
    pub path: String,
    pub reason: String,
}

#[derive(Debug, Clone)]
pub(super) struct Part<'v> {
    pub value: &'v Value,
    pub path: String,
}

impl<'v> Part<'v> {
    pub fn new(value: &'v Value, path: &str) -> Self {
        Self { value, path: path.to_owned() }
    }

    pub fn invalid(&self, reason: impl Display) -> Invalid {
        Invalid { path: self.path.clone(), reason: reason.to_string() }
    }

    pub fn refuse<T>(&self, reason: impl Display) -> Result<T, Invalid> {
        Err(self.invalid(reason))
    }

    /// The part at `key`; null where there is none.
    pub fn key(&self, key: &str) -> Self {
        self.below(self.value.get(key).unwrap_or(&Value::Null), key)
    }

    pub fn get(&self, key: &str) -> Option<Self> {
        self.value.get(key).map(|value| self.below(value, key))
    }

    fn below(&self, value: &'v Value, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { value, path }
    }

    pub fn map(&self) -> Result<&'v Map<String, Value>, Invalid> {
        self.value.as_object().ok_or_else(|| self.invalid("is not a map"))
    }

    pub fn entries(self) -> Result<impl Iterator<Item = (&'v String, Self)>, Invalid> {
        Ok(self.map()?.iter().map(move |(key, value)| (key, self.below(value, key))))
    }

    /// The entries of the map at `key`; none where there is no such map.
    pub fn entries_of(
        &self,
        key: &str,
    ) -> Result<impl Iterator<Item = (&'v String, Self)> + use<'v>, Invalid> {
        Ok(self.get(key).map(Self::entries).transpose()?.into_iter().flatten())
    }

    /// The items of the list at `key`; none where there is no such list.
    pub fn items_of(&self, key: &str) -> Result<Vec<Self>, Invalid> {
        let Some(list) = self.get(key) else { return Ok(Vec::new()) };
        let items = list.value.as_array().ok_or_else(|| list.invalid("is not a list"))?;
        let item = |(index, value)| Self { value, path: format!("{}[{index}]", list.path) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    pub fn text(&self) -> Result<&'v str, Invalid> {
        self.value.as_str().ok_or_else(|| self.invalid("is not a text"))
    }

    /// A Boolean; false where it is absent.
    pub fn flag(&self) -> Result<bool, Invalid> {
        match self.value {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            _ => self.refuse("is neither true nor false"),
        }
    }

    /// A status code, written as a number or as a text.
    pub fn status(&self) -> Result<u16, Invalid> {
        let number = self.value.as_u64().or_else(|| self.value.as_str()?.parse().ok());
        let status = number.and_then(|number| u16::try_from(number).ok());
        status
            .filter(|status| (100..600).contains(status))
            .ok_or_else(|| self.invalid("is not a status code"))
    }

    /// Refuses every key of a map that is neither `known` nor `inert` (without an effect here), and no
    /// extension (`x-`) of another vendor, which AWS ignores.
    pub fn check_keys(&self, known: &[&str], inert: &[&str]) -> Result<(), Invalid> {
        for key in self.map()?.keys().map(String::as_str) {
            let foreign = key.starts_with("x-") && !key.starts_with("x-amazon-apigateway");
            if !(known.contains(&key) || inert.contains(&key) || foreign) {
                return self.key(key).refuse("is not emulated");
            }
        }
        Ok(())
    }

    /// The one template of the map at `responseTemplates`, with its content type. API Gateway chooses
    /// among several by rules that its guide does not state, so more than one is refused.
    pub fn response_template<T, E: Display>(
        &self,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<(String, T)>, Invalid> {
        let mut templates = self.entries_of("responseTemplates")?;
        let Some((content_type, template)) = templates.next() else { return Ok(None) };
        if templates.next().is_some() {
            return self.key("responseTemplates").refuse("more than one response template is not emulated");
        }
        let parsed = parse(template.text()?).map_err(|error| template.invalid(error))?;
        Ok(Some((content_type.clone(), parsed)))
    }
}

//! JSONPath as far as mapping templates and parameter mappings use it: `$`, `$.a.b`,
//! `$['a']`, `$[0]`. Anything else is refused when the API is deployed.

use serde_json::Value;

#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Key(String),
    Index(usize),
}

impl JsonPath {
    pub fn parse(path: &str) -> Result<Self, String> {
        let refused = || format!("the JSONPath {path} is not emulated: only $, $.a.b, $['a'] and $[0] are");
        let mut rest = path.strip_prefix('$').ok_or_else(refused)?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("['") {
                let (key, after) = after.split_once("']").ok_or_else(refused)?;
                parts.push(Part::Key(key.to_owned()));
                rest = after;
            } else if let Some(after) = rest.strip_prefix('[') {
                let (index, after) = after.split_once(']').ok_or_else(refused)?;
                parts.push(Part::Index(index.parse().map_err(|_| refused())?));
                rest = after;
            } else if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let key = &after[..end];
                if key.is_empty() || !key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
                    return Err(refused());
                }
                parts.push(Part::Key(key.to_owned()));
                rest = &after[end..];
            } else {
                return Err(refused());
            }
        }
        Ok(Self(parts))
    }

    pub fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |value, part| match part {
            Part::Key(key) => value.get(key.as_str()),
            Part::Index(index) => value.get(*index),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_finds_keys_and_indexes() {
        let value = json!({"a": {"b c": [1, {"d": 2}]}});
        let find = |path: &str| JsonPath::parse(path).unwrap().find(&value).cloned();
        assert_eq!(find("$"), Some(value.clone()));
        assert_eq!(find("$.a['b c'][1].d"), Some(json!(2)));
        assert_eq!(find("$.a.x"), None);
    }

    #[test]
    fn filters_wildcards_and_deep_scans_are_refused_by_name() {
        for path in ["$..a", "$.a[*]", "$.a[?(@.b)]", "$.*", "a"] {
            assert!(JsonPath::parse(path).unwrap_err().contains(path), "{path}");
        }
    }
}

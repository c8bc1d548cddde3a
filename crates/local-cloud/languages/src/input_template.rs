//! JSON paths and input templates of rule targets (`InputTransformer`) and pipes (`InputTemplate`). A
//! template is text with `<placeholders>`. A value is written differently inside a JSON string.
//!
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html>
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-input-transformation.html>

use serde_json::Value;

/// A path like `$.detail.list[0].name`.
#[derive(Debug, Clone, PartialEq)]
pub struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Member(String),
    Index(usize),
}

impl Path {
    /// Reads a path of dots and of brackets with an index or a quoted name. Refuses wildcards, which give
    /// lists.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is not a JSON path that is supported here");
        let mut rest = text.strip_prefix('$').ok_or_else(refuse)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(inside) = rest.strip_prefix('[') {
                let (inside, behind) = inside.split_once(']').ok_or_else(refuse)?;
                steps.push(match inside.parse() {
                    Ok(index) => Step::Index(index),
                    Err(_) => Step::Member(unquote(inside).ok_or_else(refuse)?.to_owned()),
                });
                rest = behind;
            } else {
                let named = rest.strip_prefix('.').ok_or_else(refuse)?;
                let (name, behind) = named.split_at(named.find(['.', '[']).unwrap_or(named.len()));
                let valid = |letter: char| letter.is_alphanumeric() || "_-/:@".contains(letter);
                if name.is_empty() || !name.chars().all(valid) {
                    return Err(refuse());
                }
                steps.push(Step::Member(name.to_owned()));
                rest = behind;
            }
        }
        Ok(Self(steps))
    }

    pub fn find<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(document, |value, step| match step {
            // `L.0` is the same as `L[0]`.
            Step::Member(name) if value.is_array() => value.get(name.parse::<usize>().ok()?),
            Step::Member(name) => value.get(name),
            Step::Index(index) => value.get(index),
        })
    }
}

fn unquote(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Placeholder { name: String, quoted: bool },
}

impl Template {
    /// Splits a template into text and placeholders. A `<` without a name after it is text.
    pub fn parse(template: &str) -> Self {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut quoted = false;
        let mut escaped = false;
        let mut rest = template;
        while let Some(letter) = rest.chars().next() {
            if letter == '<'
                && let Some(name) = placeholder(rest)
            {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(Piece::Placeholder { name: name.to_owned(), quoted });
                rest = &rest[name.len() + 2..];
                continue;
            }
            if letter == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = letter == '\\' && !escaped;
            text.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
        pieces.push(Piece::Text(text));
        Self(pieces)
    }

    /// The names of the placeholders.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Placeholder { name, .. } => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// Fills the placeholders. A value outside of strings keeps its JSON type; inside a string it becomes
    /// part of the string. A missing value becomes an empty string, or nothing inside a string (AWS only
    /// says that it does not appear in the output).
    pub fn render(&self, value_of: impl Fn(&str) -> Option<Value>) -> String {
        let mut output = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => output.push_str(text),
                Piece::Placeholder { name, quoted: true } => {
                    output.push_str(&value_of(name).map(inside_string).unwrap_or_default());
                }
                Piece::Placeholder { name, quoted: false } => {
                    output.push_str(&value_of(name).unwrap_or_else(|| "".into()).to_string());
                }
            }
        }
        output
    }
}

/// The name in `<name>` at the start of `text`.
fn placeholder(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('<')?.split_once('>')?;
    let valid = |letter: char| letter.is_alphanumeric() || "_-.$[]*/:@'".contains(letter);
    (!name.is_empty() && name.chars().all(valid)).then_some(name)
}

/// A value as part of a JSON string. Objects and arrays lose their quotation marks:
/// "`{"key": "value"}` will become `"{key: value}"`" (eb-pipes-input-transformation.html).
fn inside_string(value: Value) -> String {
    match value {
        Value::String(text) => {
            let quoted = Value::String(text).to_string();
            quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
        }
        Value::Object(_) | Value::Array(_) => value.to_string().replace(['"', '\\'], ""),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(template: &str, document: &Value) -> String {
        Template::parse(template).render(|name| Path::parse(name).ok()?.find(document).cloned())
    }

    #[test]
    fn a_placeholder_without_quotes_keeps_the_json_type_of_its_value() {
        let document = json!({ "s": "a \"b\"", "n": 3, "o": { "k": [1, null] } });
        let rendered = render(r#"{"s": <$.s>, "n": <$.n>, "o": <$.o>}"#, &document);
        assert_eq!(serde_json::from_str::<Value>(&rendered).unwrap(), document);
    }

    #[test]
    fn a_placeholder_in_quotes_becomes_part_of_the_string() {
        let document = json!({ "s": "a \"b\"\n", "n": 3, "o": { "key": "value" } });
        let rendered = render(r#"{"x": "<$.s>", "y": "is <$.n>!", "z": "<$.o>"}"#, &document);
        let rendered: Value = serde_json::from_str(&rendered).unwrap();
        assert_eq!(rendered, json!({ "x": "a \"b\"\n", "y": "is 3!", "z": "{key:value}" }));
    }

    #[test]
    fn a_missing_value_leaves_an_empty_string() {
        let rendered = render(r#"{"x": <$.no>, "y": "a<$.no>b"}"#, &json!({}));
        assert_eq!(serde_json::from_str::<Value>(&rendered).unwrap(), json!({ "x": "", "y": "ab" }));
    }

    #[test]
    fn an_escaped_quote_does_not_end_a_string() {
        let rendered = render(r#"{"x": "say \"<$.s>\""}"#, &json!({ "s": "hi" }));
        assert_eq!(serde_json::from_str::<Value>(&rendered).unwrap(), json!({ "x": "say \"hi\"" }));
    }

    #[test]
    fn a_less_than_sign_that_opens_no_placeholder_is_text() {
        assert_eq!(render(r#"{"x": "a < b > c"}"#, &json!({})), r#"{"x": "a < b > c"}"#);
    }

    #[test]
    fn paths_take_names_and_indices_and_refuse_wildcards() {
        let document = json!({ "a-b": [{ "c d": 1 }, 2] });
        assert_eq!(Path::parse("$.a-b[0]['c d']").unwrap().find(&document), Some(&json!(1)));
        assert_eq!(Path::parse("$.a-b.1").unwrap().find(&document), Some(&json!(2)));
        assert_eq!(Path::parse("$").unwrap().find(&document), Some(&document));
        assert_eq!(Path::parse("$.a-b[9]").unwrap().find(&document), None);
        for refused in ["a", "$a", "$..a", "$.a[*]", "$.*", "$.a[?(@.b)]", "$.a["] {
            assert!(Path::parse(refused).unwrap_err().contains(refused), "{refused}");
        }
    }
}

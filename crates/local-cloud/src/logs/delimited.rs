//! Space-delimited filter patterns, `[ip, ..., status = 4*, bytes > 1000]`: a message is
//! taken apart at its spaces, and each field has a condition or none.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html>

use super::filter::Condition;

/// One place of the pattern.
#[derive(Debug)]
pub enum Field {
    /// A field that may be anything.
    Any,
    /// `...`: any number of fields.
    Rest,
    /// A field for which a condition holds.
    Holds(Condition),
}

/// Whether a message has the fields of a pattern, neither more nor fewer.
pub fn matches(fields: &[Field], message: &str) -> bool {
    fit(fields, &split(message))
}

fn fit(fields: &[Field], texts: &[&str]) -> bool {
    let Some((field, others)) = fields.split_first() else { return texts.is_empty() };
    if matches!(field, Field::Rest) {
        return (0..=texts.len()).any(|skipped| fit(others, &texts[skipped..]));
    }
    let Some((text, behind)) = texts.split_first() else { return false };
    let holds = match field {
        Field::Holds(condition) => condition.holds_of(text),
        _ => true,
    };
    holds && fit(others, behind)
}

/// The fields of a message: what stands in double quotes or square brackets is one.
fn split(message: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = message.trim_start();
    while let Some(first) = rest.chars().next() {
        let (text, close) = match first {
            '"' => (&rest[1..], '"'),
            '[' => (&rest[1..], ']'),
            _ => (rest, ' '),
        };
        let (field, behind) = text.split_once(close).unwrap_or((text, ""));
        fields.push(field);
        rest = behind.trim_start();
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::super::filter::Filter;
    use super::*;

    const ACCESS: &str =
        r#"127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534"#;

    fn found(pattern: &str) -> bool {
        Filter::parse(pattern).unwrap().matches(ACCESS)
    }

    #[test]
    fn quotes_and_brackets_make_one_field() {
        let expected = [
            "127.0.0.1",
            "Prod",
            "frank",
            "10/Oct/2000:13:25:15 -0700",
            "GET /index.html HTTP/1.0",
            "404",
            "1534",
        ];
        assert_eq!(split(ACCESS), expected);
        assert_eq!(split("  a  \"open"), ["a", "open"]);
    }

    #[test]
    fn each_field_of_a_delimited_pattern_has_its_condition() {
        assert!(found("[ip, user, username, timestamp, request, status_code, bytes]"));
        assert!(!found("[ip, user, username, timestamp, request, status_code]"));
        assert!(found("[ip, user, username, timestamp, request = *.html*, status_code = 4*, bytes > 1000]"));
        assert!(!found("[ip, user, username, timestamp, request, status_code = 4*, bytes > 2000]"));
        assert!(found("[ip != 10.0.0.1, ..., status_code = 404 || status_code = 410, bytes]"));
        assert!(found("[..., status_code >= 400 && status_code < 500, bytes]"));
        assert!(!found("[ip = %10[.].*%, ...]"));
        assert!(found("[ip = %127[.].*%, user = \"Prod\", ...]"));
    }

    #[test]
    fn a_broken_delimited_pattern_is_refused() {
        for broken in ["[a", "[a,]", "[]", "[a = ]", "[a] b", "[a b]", "[= 1]"] {
            assert!(Filter::parse(broken).is_err(), "{broken}");
        }
    }
}

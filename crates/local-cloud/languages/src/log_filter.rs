//! Filter patterns of FilterLogEvents: terms, regular expressions (`%...%`) and comparisons of JSON
//! fields (`{...}`). Patterns of space-delimited fields (`[...]`) are refused: our logs are JSON.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html>

use regex::Regex;
use serde_json::Value;

use crate::event_pattern::is_like;

#[derive(Debug)]
pub enum Filter {
    Terms {
        /// All of these must be in the message.
        required: Vec<Term>,
        /// One of these must, if there are any.
        optional: Vec<Term>,
        /// None of these may.
        excluded: Vec<Term>,
    },
    /// A condition on a JSON message.
    Json(Condition),
}

#[derive(Debug)]
pub enum Term {
    /// A word or a phrase.
    Text(String),
    /// `%...%`.
    Matching(Regex),
}

impl Term {
    fn is_in(&self, message: &str) -> bool {
        match self {
            Self::Text(text) => message.contains(text.as_str()),
            Self::Matching(regex) => regex.is_match(message),
        }
    }
}

#[derive(Debug)]
pub enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Field(Vec<Step>, Test),
}

/// One step of a property selector.
#[derive(Debug)]
pub enum Step {
    /// `.name` or `['name']`.
    Member(String),
    /// `[3]`.
    Index(usize),
}

type Compare = fn(&f64, &f64) -> bool;

/// An operator comes before another one that is its beginning.
const OPERATORS: [(&str, Compare); 6] =
    [("!=", f64::ne), ("<=", f64::le), (">=", f64::ge), ("=", f64::eq), ("<", f64::lt), (">", f64::gt)];

#[derive(Debug)]
pub enum Test {
    /// Bytes, and `None` for `*`; the flag negates.
    Text(Vec<Option<u8>>, bool),
    /// The flag negates.
    Matching(Regex, bool),
    Number(Compare, f64),
    /// `IS NULL`, `IS TRUE`, `IS FALSE`.
    Is(Value),
    /// `NOT EXISTS`.
    Absent,
}

impl Filter {
    /// Reads a filter pattern; an empty one matches everything. The error is a sentence for
    /// `InvalidParameterException`.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        let pattern = pattern.trim();
        if pattern.starts_with('{') {
            let mut parser = Parser { rest: pattern, regexes: 0 };
            parser.expect("{")?;
            let condition = parser.any_of()?;
            parser.expect("}")?;
            return parser.end().map(|()| Self::Json(condition));
        }
        if pattern.starts_with('[') {
            return Err("Space-delimited filter patterns are not emulated by the local cloud.".into());
        }
        terms(pattern)
    }

    pub fn matches(&self, message: &str) -> bool {
        match self {
            Self::Terms { required, optional, excluded } => {
                let has = |term: &Term| term.is_in(message);
                required.iter().all(has)
                    && !excluded.iter().any(has)
                    && (optional.is_empty() || optional.iter().any(has))
            }
            Self::Json(condition) => {
                serde_json::from_str(message).is_ok_and(|document| condition.holds(&document))
            }
        }
    }
}

fn terms(pattern: &str) -> Result<Filter, String> {
    let (mut required, mut optional, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = pattern;
    while !rest.is_empty() {
        let list = match rest.as_bytes()[0] {
            b'?' => &mut optional,
            b'-' => &mut excluded,
            _ => &mut required,
        };
        rest = rest.strip_prefix(['?', '-']).unwrap_or(rest);
        let (term, behind) = match rest.as_bytes().first() {
            Some(b'"') => quoted(rest).map(|(text, behind)| (Term::Text(text), behind))?,
            Some(b'%') => regular(rest).map(|(regex, behind)| (Term::Matching(regex), behind))?,
            _ => bare(rest).map(|(text, behind)| (Term::Text(text.to_owned()), behind))?,
        };
        list.push(term);
        rest = behind.trim_start();
    }
    // "If you combine the question mark with other filter patterns, it is ignored."
    if !required.is_empty() || !excluded.is_empty() {
        optional.clear();
    }
    Ok(Filter::Terms { required, optional, excluded })
}

/// Reads a term without quotes: letters, digits and underscores only.
fn bare(text: &str) -> Result<(&str, &str), String> {
    let (term, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    if term.is_empty() || !term.chars().all(|letter| letter.is_alphanumeric() || letter == '_') {
        return Err(format!("Invalid character(s) in term '{term}'"));
    }
    Ok((term, rest))
}

/// Reads `%...%`. The guide lists the allowed characters; parentheses are not among them.
fn regular(text: &str) -> Result<(Regex, &str), String> {
    let (regex, rest) =
        text[1..].split_once('%').ok_or("Invalid filter pattern: a regular expression is not closed.")?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || r":_#=@/;,-^$?[]{}|\*+.".contains(letter);
    if regex.is_empty() || !regex.chars().all(allowed) {
        return Err(format!("Invalid character(s) in the regular expression '{regex}'"));
    }
    let parsed = Regex::new(regex).map_err(|_| format!("Invalid regular expression '{regex}'"))?;
    Ok((parsed, rest))
}

/// Reads a term in double quotes, in which a backslash escapes the next character.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut term = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((term, &text[at + 1..])),
            '\\' => term.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => term.push(letter),
        }
    }
    Err("Invalid filter pattern: a quote is not closed.".into())
}

struct Parser<'a> {
    rest: &'a str,
    /// Regular expressions so far.
    regexes: usize,
}

impl<'a> Parser<'a> {
    fn skip(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.get(..token.len()) {
            Some(head) if head.eq_ignore_ascii_case(token) => {
                self.rest = &self.rest[token.len()..];
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.skip(token) {
            return Ok(());
        }
        Err(format!("Invalid filter pattern: expected `{token}` at `{}`.", self.rest))
    }

    fn end(&self) -> Result<(), String> {
        match self.rest.trim() {
            "" => Ok(()),
            more => Err(format!("Invalid filter pattern: unexpected `{more}`.")),
        }
    }

    fn any_of(&mut self) -> Result<Condition, String> {
        let mut conditions = vec![self.all_of()?];
        while self.skip("||") {
            conditions.push(self.all_of()?);
        }
        Ok(Condition::Any(conditions))
    }

    fn all_of(&mut self) -> Result<Condition, String> {
        let mut conditions = vec![self.single()?];
        while self.skip("&&") {
            conditions.push(self.single()?);
        }
        Ok(Condition::All(conditions))
    }

    fn single(&mut self) -> Result<Condition, String> {
        if self.skip("(") {
            let inner = self.any_of()?;
            self.expect(")")?;
            return Ok(inner);
        }
        Ok(Condition::Field(self.selector()?, self.test()?))
    }

    fn selector(&mut self) -> Result<Vec<Step>, String> {
        self.expect("$")?;
        let mut path = Vec::new();
        loop {
            if self.rest.starts_with(".[") {
                self.rest = &self.rest[1..];
            }
            if let Some(rest) = self.rest.strip_prefix('.') {
                let name = self.word(rest);
                if name.contains('*') {
                    return Err(no_wildcard());
                }
                if name.is_empty() {
                    return Err(format!("Invalid filter pattern: a field name is missing at `{rest}`."));
                }
                path.push(Step::Member(name.to_owned()));
            } else if let Some(rest) = self.rest.strip_prefix('[') {
                let (inner, behind) =
                    rest.split_once(']').ok_or("Invalid filter pattern: a bracket is not closed.")?;
                let inner = inner.trim();
                if inner == "*" {
                    return Err(no_wildcard());
                }
                path.push(match inner.parse() {
                    Ok(index) => Step::Index(index),
                    Err(_) => Step::Member(inner.trim_matches(['"', '\'']).to_owned()),
                });
                self.rest = behind;
            } else {
                return Ok(path);
            }
        }
    }

    /// Takes a name without quotes.
    fn word(&mut self, from: &'a str) -> &'a str {
        let ends = |letter: char| !(letter.is_alphanumeric() || "_-*:@".contains(letter));
        let (word, rest) = from.split_at(from.find(ends).unwrap_or(from.len()));
        self.rest = rest;
        word
    }

    fn test(&mut self) -> Result<Test, String> {
        if self.skip("NOT") {
            self.expect("EXISTS")?;
            return Ok(Test::Absent);
        }
        if self.skip("IS") {
            for (word, value) in [("NULL", Value::Null), ("TRUE", true.into()), ("FALSE", false.into())] {
                if self.skip(word) {
                    return Ok(Test::Is(value));
                }
            }
            return Err(format!("Invalid filter pattern: IS takes NULL, TRUE or FALSE at `{}`.", self.rest));
        }
        let operator = OPERATORS.into_iter().find(|(operator, _)| self.skip(operator));
        let operator = operator
            .ok_or_else(|| format!("Invalid filter pattern: a comparison is missing at `{}`.", self.rest))?;
        self.value(operator)
    }

    fn value(&mut self, (operator, compare): (&str, Compare)) -> Result<Test, String> {
        let is_equality = ["=", "!="].contains(&operator);
        let negated = operator == "!=";
        self.rest = self.rest.trim_start();
        if self.rest.starts_with('%') {
            if !is_equality {
                return Err(format!("Invalid filter pattern: `{operator}` takes no regular expression."));
            }
            self.regexes += 1;
            if self.regexes > 2 {
                return Err("Invalid filter pattern: there is a limit of 2 regular expressions.".into());
            }
            let (regex, rest) = regular(self.rest)?;
            self.rest = rest;
            return Ok(Test::Matching(regex, negated));
        }
        let is_quoted = self.rest.starts_with('"');
        let (text, rest) = if is_quoted {
            quoted(self.rest)?
        } else {
            let ends = |letter: char| letter.is_whitespace() || "(){}&|=<>!".contains(letter);
            let (text, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
            (text.to_owned(), rest)
        };
        self.rest = rest;
        if text.is_empty() && !is_quoted {
            return Err(format!("Invalid filter pattern: a value is missing at `{}`.", self.rest));
        }
        match text.parse() {
            Ok(number) if !is_quoted => Ok(Test::Number(compare, number)),
            _ if is_equality => {
                Ok(Test::Text(text.bytes().map(|byte| (byte != b'*').then_some(byte)).collect(), negated))
            }
            _ => Err(format!("Invalid filter pattern: `{operator}` compares numbers, not `{text}`.")),
        }
    }
}

fn no_wildcard() -> String {
    "Wildcards in property selectors are not emulated by the local cloud.".into()
}

impl Condition {
    fn holds(&self, document: &Value) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(document)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(document)),
            Self::Field(path, test) => test.holds(path.iter().try_fold(document, |value, step| match step {
                Step::Member(name) => value.get(name),
                Step::Index(index) => value.get(index),
            })),
        }
    }
}

impl Test {
    fn holds(&self, field: Option<&Value>) -> bool {
        let Some(field) = field else { return matches!(self, Self::Absent) };
        match self {
            Self::Absent => false,
            Self::Is(value) => field == value,
            // `= *` asks whether the field exists, whatever its type.
            Self::Text(pattern, negated) if !pattern.is_empty() && pattern.iter().all(Option::is_none) => {
                !negated
            }
            Self::Text(pattern, negated) => {
                field.as_str().is_some_and(|text| is_like(text.as_bytes(), pattern) != *negated)
            }
            Self::Matching(regex, negated) => {
                field.as_str().is_some_and(|text| regex.is_match(text) != *negated)
            }
            Self::Number(compare, bound) => field.as_f64().is_some_and(|number| compare(&number, bound)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, message: &str) -> bool {
        Filter::parse(pattern).unwrap().matches(message)
    }

    #[test]
    fn all_terms_must_be_in_the_message_in_any_order_and_with_their_case() {
        assert!(matches("", "anything"));
        assert!(matches("ERROR ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS"));
        assert!(!matches("ERROR ARGUMENTS", "[ERROR 401]"));
        assert!(!matches("error", "[ERROR 401]"));
    }

    #[test]
    fn a_phrase_in_quotes_is_matched_exactly() {
        assert!(matches("\"INTERNAL SERVER ERROR\"", "[ERROR 500] INTERNAL SERVER ERROR"));
        assert!(!matches("\"SERVER INTERNAL\"", "[ERROR 500] INTERNAL SERVER ERROR"));
        assert!(matches(r#""a \"b\"""#, r#"x a "b" y"#));
    }

    #[test]
    fn a_question_mark_makes_terms_alternatives_unless_others_stand_beside_them() {
        assert!(matches("?ERROR ?WARN", "[WARN] x"));
        assert!(!matches("?ERROR ?WARN", "[INFO] x"));
        assert!(matches("?ERROR ARGUMENTS", "ARGUMENTS only"));
    }

    #[test]
    fn a_minus_excludes() {
        assert!(matches("ERROR -ARGUMENTS", "[ERROR 401]"));
        assert!(!matches("ERROR -ARGUMENTS", "[ERROR 401] ARGUMENTS"));
    }

    #[test]
    fn a_term_with_other_characters_needs_quotes() {
        assert!(Filter::parse("a:b").unwrap_err().contains("'a:b'"));
        assert!(matches("\"a:b\"", "x a:b y"));
        assert!(Filter::parse("\"a").is_err());
    }

    #[test]
    fn json_fields_compare_with_text_wildcards_and_numbers() {
        let log =
            r#"{"eventType":"UpdateTrail","n":400,"ok":true,"none":null,"list":["a",{"b":"c"}],"a.b":1}"#;
        assert!(matches(r#"{ $.eventType = "UpdateTrail" }"#, log));
        assert!(matches("{$.eventType = Update* && $.n >= 400}", log));
        assert!(!matches(r#"{ $.eventType != "Update*" }"#, log));
        assert!(matches("{ ($.n = 401) || ($.n = 400 && $.ok IS TRUE) }", log));
        assert!(matches("{ $.none IS NULL && $.missing NOT EXISTS }", log));
        assert!(!matches("{ $.missing != x }", log));
        assert!(matches("{ $.list[1].b = c && $.['a.b'] = 1 }", log));
        assert!(!matches(r#"{ $.n = "400" }"#, log));
        assert!(!matches("{ $.n = 400 }", "not json 400"));
    }

    #[test]
    fn a_regular_expression_stands_between_per_cent_signs() {
        assert!(matches("%AUTHORIZED|ERR.*7$%", "ERROR 17"));
        assert!(!matches("%^ERR%", "an ERROR"));
        assert!(matches("ERROR -%4[0-9]{2}%", "ERROR 500"));
        assert!(matches("{ $.level = %^W.*% && $.n = 1 }", r#"{"level":"WARN","n":1}"#));
        assert!(!matches("{ $.level != %^W.*% }", r#"{"level":"WARN"}"#));
        for broken in [
            "%(a)%",
            "%a",
            "%%",
            "%[%",
            "%ü%",
            "%a b%",
            "{ $.n > %1% }",
            "{ $.a = %a% || $.a = %b% || $.a = %c% }",
        ] {
            assert!(Filter::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_wildcard_alone_asks_whether_the_field_is_there() {
        assert!(matches("{ $.n = * && $.s = \"*\" }", r#"{"n":1,"s":"x"}"#));
        assert!(!matches("{ $.m = * }", r#"{"n":1}"#));
    }

    #[test]
    fn what_is_not_emulated_is_refused() {
        for refused in ["{ $.list[*].a = 1 }", "{ $.*.a = 1 }"] {
            assert!(Filter::parse(refused).unwrap_err().contains("not emulated"), "{refused}");
        }
        for broken in
            ["{ $.a }", "{ $.a = }", "{ $.a = 1", "{ $.a > x }", "{ $.a = 1 } x", "{ a = 1 }", "{ $. = 1 }"]
        {
            assert!(Filter::parse(broken).is_err(), "{broken}");
        }
    }
}

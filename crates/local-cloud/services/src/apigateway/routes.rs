//! The resource that a path belongs to. API Gateway tries an exact segment before a path parameter, and that
//! before a greedy one.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

/// The path of a resource, such as `/search/{country}/{rest+}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pattern(Vec<Segment>);

// The order of the variants is the order of preference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Exact(String),
    Parameter(String),
    Greedy(String),
}

impl Pattern {
    pub fn parse(path: &str) -> Result<Self, String> {
        let rest = path.strip_prefix('/').ok_or("a path begins with /")?;
        let mut segments = Vec::new();
        for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
            if matches!(segments.last(), Some(Segment::Greedy(_))) {
                return Err("nothing can follow a greedy parameter".into());
            }
            let inner = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
            segments.push(match inner {
                Some(name) => match name.strip_suffix('+') {
                    Some(name) => Segment::Greedy(name.to_owned()),
                    None => Segment::Parameter(name.to_owned()),
                },
                None if segment.contains(['{', '}']) => {
                    return Err(format!("{segment}: a parameter must be a whole segment"));
                }
                None => Segment::Exact(segment.to_owned()),
            });
        }
        Ok(Self(segments))
    }

    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|segment| match segment {
            Segment::Exact(_) => None,
            Segment::Parameter(name) | Segment::Greedy(name) => Some(name.as_str()),
        })
    }

    /// The path parameters of `path` as the client wrote them; `None` where it does not match. Empty segments
    /// do not count, so neither does a slash at the end.
    pub fn matches(&self, path: &str) -> Option<BTreeMap<String, String>> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let mut parameters = BTreeMap::new();
        for (index, segment) in self.0.iter().enumerate() {
            let part = parts.get(index)?;
            match segment {
                Segment::Exact(text) if decode(part) == *text => {}
                Segment::Exact(_) => return None,
                Segment::Parameter(name) => {
                    parameters.insert(name.clone(), (*part).to_owned());
                }
                Segment::Greedy(name) => {
                    parameters.insert(name.clone(), parts[index..].join("/"));
                    return Some(parameters);
                }
            }
        }
        (parts.len() == self.0.len()).then_some(parameters)
    }

    /// The order in which patterns are tried.
    pub fn precedes(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// Percent-decodes a path parameter; a `+` is a `+`.
pub(super) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
        Pattern::parse(pattern).unwrap().matches(path).map(|found| found.into_iter().collect())
    }

    #[test]
    fn path_parameters_stay_as_written_until_they_are_decoded() {
        let found = matches("/search/{country}/{city}", "/search/USA/any%20t%C3%B6wn").unwrap();
        assert_eq!(found[0], ("city".into(), "any%20t%C3%B6wn".into()));
        assert_eq!(found[1], ("country".into(), "USA".into()));
        assert_eq!(decode(&found[0].1), "any töwn");
        assert_eq!(decode("a+b"), "a+b");
    }

    #[test]
    fn an_encoded_slash_stays_inside_its_segment() {
        assert_eq!(matches("/a/{x}", "/a/b%2Fc").unwrap(), [("x".to_owned(), "b%2Fc".to_owned())]);
    }

    #[test]
    fn a_greedy_parameter_takes_the_rest_and_at_least_one_segment() {
        assert_eq!(matches("/a/{x+}", "/a/b/c").unwrap(), [("x".to_owned(), "b/c".to_owned())]);
        assert_eq!(matches("/a/{x+}", "/a"), None);
    }

    #[test]
    fn a_path_of_another_length_does_not_match() {
        assert_eq!(matches("/a/{x}", "/a"), None);
        assert_eq!(matches("/a/{x}", "/a/b/c"), None);
        assert!(matches("/a/{x}", "/a/b/").is_some());
    }

    #[test]
    fn exact_segments_are_tried_before_parameters_and_greedy_ones() {
        let mut patterns = ["/a/{x+}", "/a/{x}", "/a/commands"].map(|path| Pattern::parse(path).unwrap());
        patterns.sort_by(|a, b| a.precedes(b));
        let order: Vec<usize> = patterns.iter().map(|pattern| pattern.parameters().count()).collect();
        assert_eq!(order, [0, 1, 1]);
        assert!(matches!(patterns[2].0[1], Segment::Greedy(_)));
    }

    #[test]
    fn half_a_parameter_is_refused() {
        assert!(Pattern::parse("/a/{x}-b").unwrap_err().contains("whole segment"));
    }
}

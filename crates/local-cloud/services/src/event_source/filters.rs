//! The filter criteria of mappings and pipes.

use cloud_languages::event_pattern::Pattern;
use serde::Deserialize;
use serde_json::Value;

/// Filters of a mapping, and characters of a pattern (invocation-eventfiltering, API_Filter).
const MAX_FILTERS: usize = 5;
const MAX_PATTERN_LENGTH: usize = 4_096;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct FilterCriteria {
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Filter {
    pattern: String,
}

#[derive(Debug)]
pub struct Filters(Vec<Pattern>);

impl FilterCriteria {
    /// `check` refuses what EventBridge takes in a pattern, and the service does not.
    pub fn parse(&self, check: fn(&Value) -> Result<(), String>) -> Result<Filters, String> {
        if self.filters.len() > MAX_FILTERS {
            return Err(format!("there are {MAX_FILTERS} filters at most"));
        }
        let parse = |Filter { pattern }: &Filter| {
            if pattern.len() > MAX_PATTERN_LENGTH {
                return Err(format!("a pattern has {MAX_PATTERN_LENGTH} characters at most"));
            }
            let pattern = serde_json::from_str(pattern).map_err(|error| error.to_string());
            pattern
                .and_then(|pattern| check(&pattern).and_then(|()| Pattern::parse(&pattern)))
                .map_err(|reason| format!("Invalid filter pattern definition. {reason}"))
        };
        self.filters.iter().map(parse).collect::<Result<_, _>>().map(Filters)
    }
}

impl Filters {
    /// Whether a filter matches the record, or there are no filters.
    pub fn want(&self, record: &Value) -> bool {
        self.0.is_empty() || self.0.iter().any(|filter| filter.matches(record))
    }
}

//! A pipe, checked and parsed.

use cloud_languages::input_template::{Path, Template};
use serde_json::Value;

use crate::event_source::filters::Filters;
use crate::event_source::stream::Settings;

/// How much a pipe logs; each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Failures only.
    Error,
    /// Every batch.
    Info,
}

#[derive(Debug)]
pub struct Pipe {
    pub name: String,
    pub arn: String,
    /// The table stream's ARN.
    pub source: String,
    /// The bus's ARN.
    pub target: String,
    pub filters: Filters,
    pub stream: Settings,
    /// The queue's name.
    pub dead_letter_queue: Option<String>,
    /// Makes the event's detail; without it, the detail is the record.
    pub template: Option<Template>,
    pub detail_type: Text,
    pub event_source: Text,
    pub resources: Vec<Text>,
    pub time: Option<Text>,
    /// The log group's name, and the level.
    pub log: Option<(String, Level)>,
}

/// A parameter of a target.
/// <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-event-target.html#pipes-targets-dynamic-parms>
#[derive(Debug)]
pub enum Text {
    Static(String),
    /// A path into the record.
    Dynamic(Path),
}

impl Text {
    pub fn parse(text: String) -> Result<Self, String> {
        if text.starts_with('$') { Path::parse(&text).map(Self::Dynamic) } else { Ok(Self::Static(text)) }
    }

    /// The text for a record; `None` if the record has no value there.
    pub fn of(&self, record: &Value) -> Option<String> {
        match self {
            Self::Static(text) => Some(text.clone()),
            Self::Dynamic(path) => match path.find(record)? {
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            },
        }
    }
}

/// The reserved variables of an input template.
pub const RESERVED: [&str; 8] = [
    "aws.pipes.pipe-arn",
    "aws.pipes.pipe-name",
    "aws.pipes.source-arn",
    "aws.pipes.enrichment-arn",
    "aws.pipes.target-arn",
    "aws.pipes.event.ingestion-time",
    "aws.pipes.event",
    "aws.pipes.event.json",
];

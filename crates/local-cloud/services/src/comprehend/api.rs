//! The API action.

use cloud_core::AwsError;
use cloud_core::api::{read, violated};
use cloud_core::service::Action;
use serde::Deserialize;
use serde_json::{Value, json};

use super::lexicon::judge;

pub(super) const ACTIONS: &[Action] = &[Action::new("DetectSentiment", |_, input| detect_sentiment(input))];

/// Bytes of a document.
/// <https://docs.aws.amazon.com/comprehend/latest/dg/guidelines-and-limits.html>
const TEXT_LIMIT: usize = 5_000;

/// The languages of Comprehend, in its order; the lexicon has only `en`.
/// <https://docs.aws.amazon.com/comprehend/latest/APIReference/API_DetectSentiment.html>
const LANGUAGES: [&str; 12] = ["ar", "hi", "ko", "zh-TW", "ja", "zh", "de", "pt", "en", "it", "fr", "es"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DetectSentiment {
    language_code: String,
    text: String,
}

pub(super) fn detect_sentiment(input: Value) -> Result<Value, AwsError> {
    let DetectSentiment { language_code: language, text } = read(input, "ValidationException")?;
    if !LANGUAGES.contains(&language.as_str()) {
        // The missing space is Comprehend's.
        let message = format!(
            "Value '{language}' at 'languageCode'failed to satisfy constraint: Member must satisfy enum value set: [{}]",
            LANGUAGES.join(", ")
        );
        return Err(AwsError::client("ValidationException", message));
    }
    if language != "en" {
        let message = format!("The local cloud emulates only the language en, not {language}.");
        return Err(AwsError::client("UnsupportedLanguageException", message));
    }
    if text.is_empty() {
        return Err(violated("", "text", "Member must have length greater than or equal to 1"));
    }
    if text.len() > TEXT_LIMIT {
        let message = format!(
            "Input text size exceeds limit. Max length of request text allowed is {TEXT_LIMIT} bytes while in this request the text size is {} bytes",
            text.len()
        );
        return Err(AwsError::client("TextSizeLimitExceededException", message));
    }
    let (sentiment, [positive, negative, neutral, mixed]) = judge(&text);
    tracing::info!(target: "hop", service = "comprehend", resource = "DetectSentiment", sentiment, "text judged");
    Ok(json!({
        "Sentiment": sentiment,
        "SentimentScore": {"Positive": positive, "Negative": negative, "Neutral": neutral, "Mixed": mixed},
    }))
}

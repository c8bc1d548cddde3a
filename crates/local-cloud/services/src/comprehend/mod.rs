//! A documented stand-in for Comprehend `DetectSentiment`: a small lexicon of English words,
//! with simple negation. It promises AWS's request limits, errors and answer, and the same
//! sentiment for the same text; it does not promise Comprehend's own opinion of a text.
//!
//! How it judges: each word of `PRAISE` counts for the text, each of `BLAME` against it.
//! Praise within three words behind a negation counts as blame ("not a nice place"), blame
//! there counts as nothing ("no damp"). Neither found is `NEUTRAL`; both, with the weaker at
//! least half as strong as the stronger, is `MIXED`; otherwise the stronger wins.

use std::collections::HashSet;
use std::sync::LazyLock;

use cloud_core::AwsError;
use cloud_core::service::{Action, JSON_1_1, Protocol, Service};
use serde::Deserialize;
use serde_json::{Value, json};

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["Comprehend_20171127"],
        error_prefix: "",
        forward: None,
    }],
    actions: ACTIONS,
    ..Service::new("comprehend")
};

/// The largest document in bytes.
/// <https://docs.aws.amazon.com/comprehend/latest/dg/guidelines-and-limits.html>
const TEXT_LIMIT: usize = 5_000;

/// The languages of Comprehend, in the order in which it names them; the lexicon has only `en`.
/// <https://docs.aws.amazon.com/comprehend/latest/APIReference/API_DetectSentiment.html>
const LANGUAGES: [&str; 12] = ["ar", "hi", "ko", "zh-TW", "ja", "zh", "de", "pt", "en", "it", "fr", "es"];

/// Words, made of a list of them once.
type Words = LazyLock<HashSet<&'static str>>;

fn words(list: &'static str) -> HashSet<&'static str> {
    list.split_ascii_whitespace().collect()
}

/// Words that speak for a text.
static PRAISE: Words = LazyLock::new(|| words(PRAISE_LIST));

/// Words that speak against a text.
static BLAME: Words = LazyLock::new(|| words(BLAME_LIST));

/// Words that turn what follows.
static NEGATIONS: Words = LazyLock::new(|| words(NEGATION_LIST));

const PRAISE_LIST: &str = "admirable adorable airy amazing attractive awesome beautiful beautifully best \
    breathtaking bright brilliant charm charming cheerful clean comfortable comfy convenient cosy cozy \
    delight delightful desirable elegant enchanting enjoy enjoyable excellent exceptional exquisite \
    fabulous fantastic fine flawless fresh friendly generous glorious good gorgeous great happy ideal \
    idyllic immaculate impeccable impressive incredible inviting like love loved lovely lovingly \
    luxurious luxury magnificent marvellous marvelous nice outstanding peaceful perfect perfectly \
    picturesque pleasant pleased pretty pristine quiet refined relaxing remarkable safe secluded serene \
    spacious spectacular splendid spotless stunning stylish sublime sunny superb terrific tranquil \
    unique vibrant warm welcoming wonderful wonderfully";

const BLAME_LIST: &str = "abandoned abysmal appalling avoid awful bad boring broken cockroaches collapsing \
    complaint complaints contaminated cracked cramped creepy crime crumbling cursed damaged damp dangerous \
    decayed decaying decrepit defective depressing derelict despise dilapidated dirty disappointed \
    disappointing disaster disgusting dismal dreadful dreary dump faulty filthy flooded foul garbage \
    ghastly gloomy grim grimy gross hate hated hazard hazardous haunted hideous horrendous horrible \
    horribly horror infested insult junk leaking leaks leaky lousy miserable mold moldy mould mouldy \
    nasty neglected nightmare noisy overpriced pathetic polluted poor poorly rats regret revolting rotten \
    rotting rubbish ruin ruined rundown scam shabby shoddy sinister smelly squalid stench stinking stinks \
    terrible terribly terrifying toxic trash ugly unbearable uncomfortable unfit uninhabitable unlivable \
    unpleasant unsafe useless vermin vile waste worse worst worthless wreck wretched";

const NEGATION_LIST: &str = "not no never neither nor without hardly barely isn't wasn't aren't weren't don't \
    doesn't didn't can't cannot couldn't won't wouldn't";

/// How many words a negation reaches.
const REACH: usize = 3;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DetectSentiment {
    text: String,
    language_code: String,
}

fn detect_sentiment(input: Value) -> Result<Value, AwsError> {
    let invalid = |message: String| AwsError::client("ValidationException", message);
    let constraint = |what: &str, constraint: &str| {
        invalid(format!("1 validation error detected: {what} failed to satisfy constraint: {constraint}"))
    };
    for (member, name) in [("LanguageCode", "languageCode"), ("Text", "text")] {
        if input.get(member).is_none_or(Value::is_null) {
            return Err(constraint(&format!("Value null at '{name}'"), "Member must not be null"));
        }
    }
    let input: DetectSentiment = serde_json::from_value(input).map_err(|error| invalid(error.to_string()))?;
    if !LANGUAGES.contains(&input.language_code.as_str()) {
        // The missing space is Comprehend's.
        let (language, known) = (&input.language_code, LANGUAGES.join(", "));
        return Err(invalid(format!(
            "Value '{language}' at 'languageCode'failed to satisfy constraint: Member must satisfy enum value set: [{known}]"
        )));
    }
    if input.language_code != "en" {
        let message = format!("The local cloud emulates only the language en, not {}.", input.language_code);
        return Err(AwsError::client("UnsupportedLanguageException", message));
    }
    if input.text.is_empty() {
        return Err(constraint("Value '' at 'text'", "Member must have length greater than or equal to 1"));
    }
    if input.text.len() > TEXT_LIMIT {
        let message = format!(
            "Input text size exceeds limit. Max length of request text allowed is {TEXT_LIMIT} bytes while in this request the text size is {} bytes",
            input.text.len()
        );
        return Err(AwsError::client("TextSizeLimitExceededException", message));
    }
    let (sentiment, scores) = judge(&input.text);
    let [positive, negative, neutral, mixed] = scores;
    tracing::info!(target: "hop", service = "comprehend", resource = "DetectSentiment", sentiment, "text judged");
    Ok(json!({
        "Sentiment": sentiment,
        "SentimentScore": {"Positive": positive, "Negative": negative, "Neutral": neutral, "Mixed": mixed},
    }))
}

/// The sentiment, and the scores of positive, negative, neutral and mixed, which sum to 1
/// and of which the sentiment's own is the highest.
fn judge(text: &str) -> (&'static str, [f64; 4]) {
    let (praise, blame) = weigh(text);
    let weaker = praise.min(blame);
    let sentiment = match (praise, blame) {
        (0, 0) => "NEUTRAL",
        _ if weaker * 2 >= praise.max(blame) => "MIXED",
        _ if praise > blame => "POSITIVE",
        _ => "NEGATIVE",
    };
    // A small share for each, so that no score is a flat 0, as it never is on AWS.
    let raw = [
        praise as f64 + 0.02,
        blame as f64 + 0.02,
        if sentiment == "NEUTRAL" { 1.0 } else { 0.1 },
        if sentiment == "MIXED" { (praise + blame) as f64 } else { weaker as f64 * 0.5 + 0.01 },
    ];
    let sum: f64 = raw.iter().sum();
    (sentiment, raw.map(|share| share / sum))
}

/// How many words speak for and against the text.
fn weigh(text: &str) -> (usize, usize) {
    let (mut praise, mut blame) = (0, 0);
    // Words that the last negation still reaches; a sentence ends its reach.
    let mut reach = 0;
    for sentence in text.split(['.', '!', '?', ';', '\n']) {
        for word in sentence.split(|letter: char| !letter.is_alphabetic() && letter != '\'' && letter != '’')
        {
            let word = word.trim_matches(['\'', '’']).to_lowercase().replace('’', "'");
            if word.is_empty() {
                continue;
            }
            let word = word.as_str();
            if NEGATIONS.contains(word) {
                reach = REACH;
                continue;
            }
            match (PRAISE.contains(word), BLAME.contains(word), reach > 0) {
                (true, _, false) => praise += 1,
                (true, _, true) | (_, true, false) => blame += 1,
                _ => {}
            }
            reach = reach.saturating_sub(1);
        }
        reach = 0;
    }
    (praise, blame)
}

/// The actions, with the members of AWS's API reference.
const ACTIONS: &[Action] = &[Action::new("DetectSentiment", |_, input| detect_sentiment(input))];

#[cfg(test)]
mod tests {
    use super::*;

    fn sentiment(text: &str) -> String {
        let answer = detect_sentiment(json!({"Text": text, "LanguageCode": "en"})).unwrap();
        answer["Sentiment"].as_str().unwrap().to_owned()
    }

    fn refused(input: Value) -> String {
        detect_sentiment(input).unwrap_err().code
    }

    #[test]
    fn the_four_sentiments_are_told_apart() {
        assert_eq!(sentiment("A lovely, bright house with a beautiful garden."), "POSITIVE");
        assert_eq!(
            sentiment("A horrible, mouldy ruin. The neighbours are noisy and the roof leaks."),
            "NEGATIVE"
        );
        assert_eq!(sentiment("Three rooms, 80 square metres, second floor."), "NEUTRAL");
        assert_eq!(sentiment("A beautiful garden, and a terrible house."), "MIXED");
    }

    #[test]
    fn a_little_blame_among_much_praise_is_still_positive() {
        assert_eq!(sentiment("Beautiful, spacious, sunny, charming; the cellar is damp."), "POSITIVE");
    }

    #[test]
    fn a_negation_turns_praise_to_blame_and_takes_blame_away() {
        assert_eq!(sentiment("This is not a nice place."), "NEGATIVE");
        assert_eq!(sentiment("No damp and no rats."), "NEUTRAL");
        assert_eq!(sentiment("It isn’t good. Lovely, wonderful garden, superb view."), "POSITIVE");
        assert_eq!(sentiment("Not for everyone. A perfect home."), "POSITIVE");
    }

    #[test]
    fn the_scores_sum_to_one_and_the_sentiment_has_the_highest() {
        for text in
            ["lovely", "awful", "a house", "lovely but awful", "great great great bad", "bad bad bad good"]
        {
            let (sentiment, scores) = judge(text);
            assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{text}: {scores:?}");
            let highest = scores.iter().copied().fold(0.0, f64::max);
            let index =
                ["POSITIVE", "NEGATIVE", "NEUTRAL", "MIXED"].iter().position(|name| *name == sentiment);
            assert!(
                (scores[index.unwrap()] - highest).abs() < f64::EPSILON,
                "{text}: {sentiment} {scores:?}"
            );
        }
    }

    #[test]
    fn a_text_has_one_to_5000_bytes() {
        assert!(detect_sentiment(json!({"Text": "x".repeat(5_000), "LanguageCode": "en"})).is_ok());
        let long = detect_sentiment(json!({"Text": "é".repeat(2_501), "LanguageCode": "en"})).unwrap_err();
        assert_eq!(long.code, "TextSizeLimitExceededException");
        assert_eq!(
            long.message,
            "Input text size exceeds limit. Max length of request text allowed is 5000 bytes while in this request the text size is 5002 bytes"
        );
        let empty = detect_sentiment(json!({"Text": "", "LanguageCode": "en"})).unwrap_err();
        assert_eq!(empty.code, "ValidationException");
        assert!(empty.message.ends_with("Member must have length greater than or equal to 1"));
        assert_eq!(sentiment(" "), "NEUTRAL");
    }

    #[test]
    fn a_missing_member_and_an_unknown_one_are_refused_by_name() {
        let missing = detect_sentiment(json!({"Text": "a"})).unwrap_err();
        assert_eq!(
            missing.message,
            "1 validation error detected: Value null at 'languageCode' failed to satisfy constraint: Member must not be null"
        );
        assert_eq!(refused(json!({"LanguageCode": "en"})), "ValidationException");
        assert_eq!(refused(json!({"Text": "a", "LanguageCode": "en", "Mood": 1})), "ValidationException");
    }

    #[test]
    fn a_language_that_comprehend_does_not_know_is_not_valid() {
        let unknown = detect_sentiment(json!({"Text": "a", "LanguageCode": "xx"})).unwrap_err();
        assert_eq!(unknown.code, "ValidationException");
        assert!(unknown.message.starts_with("Value 'xx' at 'languageCode'"), "{}", unknown.message);
        assert!(unknown.message.ends_with("[ar, hi, ko, zh-TW, ja, zh, de, pt, en, it, fr, es]"));
    }

    #[test]
    fn a_language_that_the_lexicon_does_not_have_is_refused_by_name() {
        let german = detect_sentiment(json!({"Text": "a", "LanguageCode": "de"})).unwrap_err();
        assert_eq!(german.code, "UnsupportedLanguageException");
        assert!(german.message.contains("de"));
    }

    #[test]
    fn the_answer_has_the_sentiment_and_the_score_of_each() {
        let answer = detect_sentiment(json!({"Text": "A lovely house.", "LanguageCode": "en"})).unwrap();
        assert_eq!(answer.as_object().unwrap().len(), 2);
        let scores = answer["SentimentScore"].as_object().unwrap();
        let names: Vec<&str> = scores.keys().map(String::as_str).collect();
        assert_eq!(names, ["Positive", "Negative", "Neutral", "Mixed"]);
        assert!(scores.values().all(|score| (0.0..=1.0).contains(&score.as_f64().unwrap())));
    }

    #[test]
    fn no_word_is_in_two_lists() {
        assert_eq!(PRAISE.intersection(&BLAME).next(), None);
    }
}

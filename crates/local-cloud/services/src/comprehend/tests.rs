use serde_json::{Value, json};

use super::api::detect_sentiment;
use super::lexicon::{BLAME, PRAISE, judge};

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
        let index = ["POSITIVE", "NEGATIVE", "NEUTRAL", "MIXED"].iter().position(|name| *name == sentiment);
        assert!((scores[index.unwrap()] - highest).abs() < f64::EPSILON, "{text}: {sentiment} {scores:?}");
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

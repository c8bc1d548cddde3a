use serde_json::{Value, json};

use super::*;

fn matches(pattern: Value, event: Value) -> bool {
    Pattern::parse(&pattern).unwrap().matches(&event)
}

fn refusal(pattern: Value) -> String {
    Pattern::parse(&pattern).unwrap_err()
}

#[test]
fn all_fields_must_match_and_any_value_of_a_field_may() {
    let pattern = json!({ "source": ["a", "b"], "detail": { "status": ["NEW"] } });
    let event =
        |source: &str, status: &str| json!({ "source": source, "detail": { "status": status, "x": 1 } });
    assert!(matches(pattern.clone(), event("a", "NEW")));
    assert!(matches(pattern.clone(), event("b", "NEW")));
    assert!(!matches(pattern.clone(), event("c", "NEW")));
    assert!(!matches(pattern.clone(), event("a", "OLD")));
    assert!(!matches(pattern, json!({ "source": "a" })));
}

#[test]
fn strings_are_compared_character_by_character() {
    let pattern = json!({ "a": ["He said \"é\" \\ \n ok"] });
    assert!(matches(pattern.clone(), json!({ "a": "He said \"é\" \\ \n ok" })));
    assert!(!matches(pattern.clone(), json!({ "a": "he said \"é\" \\ \n ok" })));
    assert!(!matches(json!({ "a": ["5"] }), json!({ "a": 5 })));
    assert!(!matches(json!({ "a": ["null"] }), json!({ "a": null })));
}

#[test]
fn an_array_in_the_event_matches_when_one_of_its_elements_does() {
    let pattern = json!({ "resources": ["x", "y"] });
    assert!(matches(pattern.clone(), json!({ "resources": ["a", "y"] })));
    assert!(!matches(pattern.clone(), json!({ "resources": ["a"] })));
    assert!(!matches(pattern, json!({ "resources": [] })));
}

/// AWS's guide says that 300, 300.0 and 3.0e2 are not equal; its engine and its recorded
/// answers say that they are.
#[test]
fn numbers_are_equal_by_value_however_they_are_written() {
    for written in ["300", "300.0", "3.0e2"] {
        let event = serde_json::from_str(&format!("{{ \"n\": {written} }}")).unwrap();
        assert!(matches(json!({ "n": [300] }), event), "{written}");
    }
    assert!(!matches(json!({ "n": [300] }), json!({ "n": "300" })));
    assert!(!matches(json!({ "n": [300] }), json!({ "n": 300.1 })));
    assert!(matches(json!({ "n": ["x", 1, { "exists": false }] }), json!({ "n": 1 })));
    // An account's number is too large to be compared as a number.
    assert!(matches(json!({ "n": [123_456_789_012_i64] }), json!({ "n": 123_456_789_012_i64 })));
    assert!(!matches(json!({ "n": [123_456_789_012_i64] }), json!({ "n": 123_456_789_013_i64 })));
}

#[test]
fn numeric_compares_by_value_and_only_numbers() {
    let between = json!({ "n": [{ "numeric": [">", 0, "<=", 5] }] });
    assert!(matches(between.clone(), json!({ "n": 5.0 })));
    assert!(!matches(between.clone(), json!({ "n": 0 })));
    assert!(!matches(between, json!({ "n": "3" })));
    assert!(matches(json!({ "n": [{ "numeric": ["=", 3.018e2] }] }), json!({ "n": 301.8 })));
    let open = json!({ "n": [{ "numeric": [">=", 0] }] });
    assert!(matches(open.clone(), json!({ "n": [null, 0] })));
    assert!(!matches(open.clone(), json!({ "n": -1 })));
    assert!(!matches(open, json!({ "n": null })));
}

#[test]
fn exists_looks_at_leaf_nodes_only() {
    let absent = json!({ "source": ["s"], "detail": { "count": [{ "exists": false }] } });
    assert!(matches(absent.clone(), json!({ "source": "s", "detail": { "state": 1 } })));
    assert!(matches(absent.clone(), json!({ "source": "s", "detail": { "count": { "c1": 100 } } })));
    assert!(!matches(absent, json!({ "source": "s", "detail": { "count": 1 } })));
    let present = json!({ "detail": { "count": [{ "exists": true }] } });
    assert!(matches(present.clone(), json!({ "detail": { "count": null } })));
    assert!(!matches(present, json!({ "detail": { "count": { "c1": 100 } } })));
}

#[test]
fn exists_false_may_stand_beside_values() {
    let pattern = json!({ "detail": { "a": ["x", { "exists": false }] } });
    assert!(matches(pattern.clone(), json!({ "detail": { "a": "x" } })));
    assert!(matches(pattern.clone(), json!({ "detail": { "b": "x" } })));
    assert!(!matches(pattern, json!({ "detail": { "a": "y" } })));
    // "New is DRAFT, old is not": how a pipe's filter says that a status changed.
    let changed = json!({ "old": { "s": { "S": [{ "exists": false }, { "anything-but": ["DRAFT"] }] } }, "new": { "s": { "S": ["DRAFT"] } } });
    let record = |old: Value| json!({ "old": old, "new": { "s": { "S": "DRAFT" } } });
    assert!(matches(changed.clone(), record(json!({ "s": { "S": "CLOSED" } }))));
    assert!(matches(changed.clone(), json!({ "new": { "s": { "S": "DRAFT" } } })));
    assert!(!matches(changed, record(json!({ "s": { "S": "DRAFT" } }))));
}

#[test]
fn null_and_the_empty_string_are_values() {
    assert!(matches(json!({ "a": [null] }), json!({ "a": null })));
    assert!(!matches(json!({ "a": [null] }), json!({ "a": "" })));
    assert!(matches(json!({ "a": [""] }), json!({ "a": "" })));
    assert!(matches(json!({ "a": [true] }), json!({ "a": true })));
}

#[test]
fn prefix_suffix_and_wildcard_match_text() {
    assert!(matches(json!({ "t": [{ "prefix": "2017-" }] }), json!({ "t": "2017-10-02" })));
    assert!(!matches(json!({ "t": [{ "prefix": "017" }] }), json!({ "t": "2017" })));
    assert!(matches(json!({ "f": [{ "suffix": ".png" }] }), json!({ "f": "a.png" })));
    assert!(matches(json!({ "f": [{ "wildcard": "/a/*/c*" }] }), json!({ "f": "/a/b/b/c.x" })));
    let literal = json!({ "f": [{ "wildcard": "\\*a\\\\*" }] });
    assert!(matches(literal.clone(), json!({ "f": "*a\\z" })));
    assert!(!matches(literal, json!({ "f": "xa\\z" })));
    assert!(matches(json!({ "f": [{ "wildcard": "*.b*b" }] }), json!({ "f": "a.b.ab" })));
}

#[test]
fn case_is_ignored_where_the_pattern_says_so() {
    assert!(matches(json!({ "s": [{ "equals-ignore-case": "alice" }] }), json!({ "s": "AlIcE" })));
    let prefix = json!({ "s": [{ "prefix": { "equals-ignore-case": "Event.b" } }] });
    assert!(matches(prefix.clone(), json!({ "s": "EVENT.Bridge\nx" })));
    assert!(!matches(prefix.clone(), json!({ "s": "eventxb" })));
    assert!(!matches(prefix, json!({ "s": "an event.b" })));
    let suffix = json!({ "s": [{ "suffix": { "equals-ignore-case": ".PNG" } }] });
    assert!(matches(suffix.clone(), json!({ "s": "a.pNg" })));
    assert!(!matches(suffix, json!({ "s": "a.png.txt" })));
}

#[test]
fn anything_but_excludes_values_and_needs_one_to_be_there() {
    let pattern = json!({ "s": [{ "anything-but": ["a", "b"] }] });
    assert!(matches(pattern.clone(), json!({ "s": "c" })));
    assert!(!matches(pattern.clone(), json!({ "s": "a" })));
    assert!(!matches(pattern, json!({ "other": "c" })));
    assert!(!matches(json!({ "n": [{ "anything-but": 123 }] }), json!({ "n": 123 })));
    assert!(matches(json!({ "n": [{ "anything-but": [1, 2] }] }), json!({ "n": 3 })));
    // `anything-but` also matches a value of another type.
    assert!(matches(json!({ "s": [{ "anything-but": ["a"] }] }), json!({ "s": null })));
    assert!(matches(json!({ "s": [{ "anything-but": { "prefix": "1" } }] }), json!({ "s": 12 })));
    assert!(matches(json!({ "s": [{ "anything-but": ["a"] }] }), json!({ "s": ["a", "b"] })));
}

#[test]
fn anything_but_takes_prefix_suffix_wildcard_and_case() {
    let but = |inner: Value, value: &str| {
        matches(json!({ "d": { "s": [{ "anything-but": inner }] } }), json!({ "d": { "s": value } }))
    };
    assert!(but(json!({ "prefix": "init" }), "running"));
    assert!(!but(json!({ "prefix": "init" }), "initializing"));
    assert!(!but(json!({ "prefix": ["init", "error"] }), "errors"));
    assert!(!but(json!({ "suffix": ".png" }), "a.png"));
    assert!(but(json!({ "suffix": ".png" }), "a.jpg"));
    assert!(!but(json!({ "wildcard": "*/lib/*" }), "/x/lib/y"));
    assert!(but(json!({ "wildcard": "*/lib/*" }), "/x/y"));
    assert!(!but(json!({ "equals-ignore-case": ["a", "initializing"] }), "INITIALIZING"));
    // A value of another element still counts.
    let beside = json!({ "s": ["initial", { "anything-but": { "prefix": "init" } }] });
    assert!(matches(beside.clone(), json!({ "s": "initial" })));
    assert!(!matches(beside, json!({ "s": "init" })));
    assert!(!matches(json!({ "s": [{ "anything-but": { "prefix": "a" } }] }), json!({ "t": "b" })));
}

#[test]
fn cidr_matches_addresses() {
    let pattern = json!({ "ip": [{ "cidr": "10.0.0.0/24" }] });
    assert!(matches(pattern.clone(), json!({ "ip": "10.0.0.200" })));
    assert!(!matches(pattern.clone(), json!({ "ip": "10.0.1.1" })));
    assert!(!matches(pattern, json!({ "ip": 10 })));
    let six = json!({ "ip": [{ "cidr": "2001:db8:1234:1a00::/56" }] });
    assert!(matches(six.clone(), json!({ "ip": "2001:db8:1234:1aff::1" })));
    assert!(!matches(six.clone(), json!({ "ip": "2001:db8:1234:1b00::1" })));
    assert!(!matches(six, json!({ "ip": "10.0.0.1" })));
    // An address alone is equal in all of its spellings.
    assert!(matches(json!({ "ip": ["::1"] }), json!({ "ip": "0:0:0:0:0:0:0:1" })));
}

#[test]
fn or_matches_one_branch_or_another_and_multiplies_out() {
    let pattern = json!({
        "source": ["s"],
        "detail": { "$or": [{ "n": [{ "numeric": ["<=", 10] }] }, { "m": ["x"], "$or": [{ "a": [1] }, { "b": [2] }] }] }
    });
    let event = |detail: Value| json!({ "source": "s", "detail": detail });
    assert!(matches(pattern.clone(), event(json!({ "n": 3 }))));
    assert!(matches(pattern.clone(), event(json!({ "m": "x", "b": 2 }))));
    assert!(!matches(pattern.clone(), event(json!({ "m": "x" }))));
    assert!(!matches(pattern, json!({ "source": "t", "detail": { "n": 3 } })));
    // A field beside an $or and inside of it counts as it is written last.
    let twice = json!({ "$or": [{ "a": [1] }, { "a": [2] }], "a": [3] });
    assert!(matches(twice.clone(), json!({ "a": 3 })));
    assert!(!matches(twice, json!({ "a": 1 })));
}

#[test]
fn objects_in_an_array_are_matched_one_by_one() {
    let pattern = json!({ "list": { "a": ["1"], "b": ["2"] } });
    assert!(matches(pattern.clone(), json!({ "list": [{ "a": "1", "b": "2" }] })));
    assert!(!matches(pattern, json!({ "list": [{ "a": "1", "b": "x" }, { "a": "y", "b": "2" }] })));
}

#[test]
fn values_of_one_array_need_not_come_from_one_element_unless_it_is_an_object() {
    let pattern = json!({ "list": { "a": ["1"] }, "other": { "b": ["2"] } });
    assert!(matches(pattern, json!({ "list": [{ "a": "1" }], "other": [{ "b": "x" }, { "b": "2" }] })));
    let nested = json!({ "list": { "a": ["1"], "in": { "b": ["2"] } } });
    let event = |first: &str, second: &str| {
        let inner = |b: &str| json!([{ "b": "x" }, { "b": b }]);
        json!({ "list": [{ "a": "1", "in": inner(first) }, { "a": "2", "in": inner(second) }] })
    };
    assert!(matches(nested.clone(), event("2", "3")));
    assert!(!matches(nested, event("3", "2")));
    assert!(matches(json!({ "list": [2] }), json!({ "list": [[1], [2, 3]] })));
    assert!(matches(json!({ "list": [{ "exists": false }] }), json!({ "list": [] })));
}

/// The words are AWS's own, as it answered them to others.
#[test]
fn what_eventbridge_refuses_does_not_parse_and_is_told_in_its_words() {
    let refused = [
        (json!([]), "Filter is not an object"),
        (json!({}), "Empty objects are not allowed"),
        (json!({ "a": { "b": {} } }), "Empty objects are not allowed"),
        (json!({ "a": [] }), "Empty arrays are not allowed"),
        (json!({ "int": 42 }), "\"int\" must be an object or an array"),
        (json!({ "a": { "string": "x" } }), "\"string\" must be an object or an array"),
        (json!({ "a": [["x"]] }), "Match value must be String, number, true, false, or null"),
        (json!({ "a": [{}] }), "Match expression name not found"),
        (json!({ "a": [{ "prefix": "x", "suffix": "y" }] }), "Only one key allowed in match expression"),
        (json!({ "a": [{ "EXISTS": true }] }), "Unrecognized match type EXISTS"),
        (json!({ "a": [{ "regexp": "x" }] }), "Unrecognized match type regexp"),
        (json!({ "a": [{ "exists": "yes" }] }), "exists match pattern must be either true or false."),
        (json!({ "a": [{ "prefix": 5 }] }), "prefix match pattern must be a string"),
        (json!({ "a": [{ "prefix": { "wildcard": "a" } }] }), "prefix match pattern must be a string"),
        (json!({ "a": [{ "suffix": [".png"] }] }), "suffix match pattern must be a string"),
        (
            json!({ "a": [{ "equals-ignore-case": ["x"] }] }),
            "equals-ignore-case match pattern must be a string",
        ),
        (json!({ "a": [{ "wildcard": 123 }] }), "wildcard match pattern must be a string"),
        (
            json!({ "a": [{ "wildcard": "arn:aws:events:us-east-1:**:event-bus/*" }] }),
            "Consecutive wildcard characters at pos 26",
        ),
        (json!({ "a": [{ "wildcard": "a\\b" }] }), "Invalid escape character at pos 2"),
        (json!({ "a": [{ "cidr": ["x"] }] }), "prefix match pattern must be a string"),
        (json!({ "a": [{ "cidr": "10.0.0.0" }] }), "Malformed CIDR, one '/' required"),
        (json!({ "a": [{ "cidr": "10.0.0.0/x" }] }), "Malformed CIDR, mask bits must be an integer"),
        (json!({ "a": [{ "cidr": "xx.11.xx/8" }] }), "Nonstandard IP address: xx.11.xx"),
        (json!({ "a": [{ "cidr": "10.0.0.0/32" }] }), "IPv4 mask bits must be < 32"),
        (json!({ "a": [{ "numeric": 5 }] }), "Value of numeric must be an array."),
        (json!({ "a": [{ "numeric": [] }] }), "Invalid member in numeric match: ]"),
        (json!({ "a": [{ "numeric": [">", 0, ">", 0] }] }), "Bad numeric range operator: >"),
        (json!({ "a": [{ "numeric": [">", 0, "<"] }] }), "Value of < must be numeric"),
        (json!({ "a": [{ "numeric": ["=", "5"] }] }), "Value of equals must be numeric"),
        (json!({ "a": [{ "numeric": ["!=", 5] }] }), "Unrecognized numeric range operator: !="),
        (json!({ "a": [{ "numeric": ["<", 5, ">", 0] }] }), "Too many elements in numeric expression"),
        (json!({ "a": [{ "numeric": [">", 5, "<", 5] }] }), "Bottom must be less than top"),
        (json!({ "a": [{ "numeric": ["<", 6.0e9] }] }), "Value must be between -5.0E9 and 5.0E9, inclusive"),
        (
            json!({ "a": [{ "anything-but": null }] }),
            "Value of anything-but must be an array or single string/number value.",
        ),
        (
            json!({ "a": [{ "anything-but": ["x", null] }] }),
            "Inside anything but list, start|null|boolean is not supported.",
        ),
        (
            json!({ "a": [{ "anything-but": ["x", 1] }] }),
            "Inside anything but list, either all values are number or string, mixed type is not supported",
        ),
        (
            json!({ "a": [{ "anything-but": { "cidr": "10.0.0.0/8" } }] }),
            "Unsupported anything-but pattern: cidr",
        ),
        (json!({ "a": [{ "anything-but": { "prefix": "" } }] }), "Null prefix/suffix not allowed"),
        (
            json!({ "a": [{ "anything-but": { "suffix": [123, ".txt"] } }] }),
            "prefix/suffix match pattern must be a string",
        ),
        (
            json!({ "a": [{ "anything-but": { "prefix": { "equals-ignore-case": "x" } } }] }),
            "Value of anything-but must be an array or single string/number value.",
        ),
        (
            json!({ "a": [{ "anything-but": { "wildcard": 123 } }] }),
            "wildcard match pattern must be a string",
        ),
        (
            json!({ "a": [{ "anything-but": { "equals-ignore-case": [123] } }] }),
            "Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.",
        ),
        (json!({ "$or": { "a": [1] } }), "It must be an Array followed with $or."),
        (json!({ "$or": [1, 2] }), "Only JSON object is allowed in array of $or relationship."),
        (json!({ "$or": [{ "a": [1] }] }), "There must have at least 2 Objects in $or relationship."),
        (
            json!({ "$or": [{ "prefix": ["x"] }, { "a": [1] }] }),
            "prefix is Ruler reserved fieldName which cannot be used inside $or.",
        ),
    ];
    for (pattern, words) in refused {
        assert_eq!(refusal(pattern.clone()), words, "{pattern}");
    }
}

#[test]
fn the_combinations_of_an_or_are_limited() {
    let or = |name: &str| {
        let branches: Vec<Value> = (0..11).map(|n| json!({ format!("{name}{n}"): [1] })).collect();
        json!(branches)
    };
    let pattern = json!({ "a": { "$or": or("a") }, "b": { "$or": or("b") }, "c": { "$or": or("c") } });
    assert!(refusal(pattern).contains("1000"));
}

/// "EventBridge joins the names with dots": AWS's own engine does, for patterns and events.
#[test]
fn a_field_is_found_by_its_names_joined_with_dots() {
    let nested = json!({ "detail": { "state": { "status": ["running"] } } });
    let joined = json!({ "detail": { "state.status": ["running"] } });
    for pattern in [nested, joined] {
        assert!(matches(pattern.clone(), json!({ "detail": { "state": { "status": "running" } } })));
        assert!(matches(pattern.clone(), json!({ "detail": { "state.status": "running" } })));
        let deeper = json!({ "detail": { "state.status": { "status": "running" } } });
        assert!(!matches(pattern, deeper));
    }
}

#[test]
fn names_and_operators_are_case_sensitive() {
    assert!(!matches(json!({ "Source": ["a"] }), json!({ "source": "a" })));
    assert!(!matches(json!({ "source": ["A"] }), json!({ "source": "a" })));
}

#[test]
fn wildcards_that_many_beginnings_could_match_at_once_are_too_complex() {
    let files = |endings: &[&str]| {
        let wildcards: Vec<Value> =
            endings.iter().map(|ending| json!({ "wildcard": format!("*/datasync/*.{ending}") })).collect();
        json!({ "key": wildcards })
    };
    assert!(Pattern::parse(&files(&["bif", "tif"])).is_ok());
    let plain: Vec<Value> =
        ["bif", "tiff", "tif", "svs"].map(|ending| json!({ "wildcard": format!("*.{ending}") })).into();
    assert!(Pattern::parse(&json!({ "key": plain })).is_ok());
    let bus = json!({ "EventBusArn": [{ "wildcard": "*:*:*:*:*:event-bus/*" }] });
    for refused in [files(&["bif", "tif", "tiff", "svs"]), bus] {
        assert!(refusal(refused).starts_with("Rule is too complex - try using fewer wildcard characters"));
    }
    assert!(Pattern::parse(&json!({ "key": [{ "wildcard": "arn:*:events:*:*:event-bus/*" }] })).is_ok());
    let but = json!({ "key": [{ "anything-but": { "wildcard": ["*/a", "*/b", "*/c", "*/d", "*/e"] } }] });
    assert!(Pattern::parse(&but).is_ok());
}

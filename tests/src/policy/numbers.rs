//! Every number of a template has a reason beside it. The rule reads the files as they are written.

use super::{Deployment, Fault, Faults, Mutation, Rule};
use crate::templates::{CONTRACTS, WEB};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "number-reasons",
    holds: "every number has a comment: on its line, directly above it, or on or above the block that holds it",
    check: reasons,
    notices: &[
        Mutation::swap(
            "template.yaml",
            "ContractWaitSeconds",
            " # 30 days: people sign a contract within weeks",
            "",
        ),
        Mutation::drop(CONTRACTS, "IngestQueue", "# Four days"),
        Mutation::swap("account.yaml", "Owner", "MinLength: 1 #", "MinLength: 1\n    #"),
        Mutation::swap(
            WEB,
            "OnContractEndedRule",
            "RetryPolicy: # EventBridge's maximum: 24 hours, longer than any outage so far",
            "RetryPolicy:",
        ),
        Mutation::swap("web-service/api.yaml", "Listing", " # a code of ISO 4217", "").naming("WebApi"),
        Mutation::swap("properties-service/approval.asl.yaml", "FindContract", " # a data service", "")
            .naming("ApprovalStateMachine"),
    ],
}];

fn reasons(deployment: &Deployment<'_>) -> Faults {
    let mut faults = Faults::new();
    for text in deployment.texts() {
        faults.extend(unexplained(&text.text).into_iter().map(|(place, line)| Fault {
            file: text.template.clone(),
            resource: text.reader.as_deref().unwrap_or(place).to_owned(),
            wrong: format!("has a number without a reason: {line}"),
        }));
    }
    faults
}

/// The lines that have a number and no reason, each with the key two spaces deep that holds it: a
/// resource, a parameter, a mapping.
///
/// A number is a whole value. Texts are none (versions, ARNs, patterns, expressions, quoted digits), nor
/// is what is inside a block of text: the JSON of a dashboard or a schema can hold no comment.
fn unexplained(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut place = "";
    // The lines in which this one stands, each with its depth and whether it has a comment.
    let mut above: Vec<(usize, bool)> = Vec::new();
    let (mut comment_above, mut block, mut quoted) = (false, None, false);
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        if line.trim().is_empty() || block.is_some_and(|from| depth > from) {
            continue;
        }
        block = None;
        if line.trim_start().starts_with('#') && !quoted {
            comment_above = true;
            continue;
        }
        let read = Line::read(line, quoted);
        quoted = read.is_open;
        if depth == 2 {
            place = line.trim().split(':').next().unwrap_or_default();
        }
        above.retain(|(outer, _)| *outer < depth);
        let explained = read.has_comment || comment_above;
        if read.has_number && !explained && !above.last().is_some_and(|(_, explained)| *explained) {
            found.push((place, line.trim()));
        }
        above.push((depth, explained));
        comment_above = false;
        if read.begins_block {
            block = Some(depth);
        }
    }
    found
}

/// What the rule has to know about a line of YAML.
struct Line {
    has_number: bool,
    has_comment: bool,
    /// A block of text follows: `|`, `>-` and so on.
    begins_block: bool,
    /// A double quote is still open at the end.
    is_open: bool,
}

impl Line {
    fn read(line: &str, was_open: bool) -> Self {
        let mut quote = was_open.then_some('"');
        let mut code = String::new();
        let mut has_comment = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            // A quoted text begins only where a value can begin.
            let begins = code.is_empty() || code.ends_with([' ', '[', '{', ',']);
            match quote {
                Some('"') if character == '\\' => {
                    characters.next();
                }
                Some(open) if character == open => {
                    quote = None;
                    code.push('"');
                }
                Some(_) => {}
                None if begins && (character == '"' || character == '\'') => quote = Some(character),
                None if begins && character == '#' => {
                    has_comment = true;
                    break;
                }
                None => code.push(character),
            }
        }
        let code = code.trim_end();
        let last = code.rsplit(' ').next().unwrap_or_default();
        Self {
            has_number: has_number(code),
            has_comment,
            begins_block: last.starts_with(['|', '>']) && last.len() <= 2,
            is_open: quote == Some('"'),
        }
    }
}

/// Whether a value in the line, or an item of a list in it, is a number. The texts in quotes are gone.
fn has_number(code: &str) -> bool {
    let is_number = |text: &str| text.parse::<f64>().is_ok();
    let code = code.trim_start().trim_start_matches("- ");
    let value = code.split_once(": ").map_or(code, |(_, value)| value).trim();
    if is_number(value) {
        return true;
    }
    // In a list or map on one line; in a plain sentence, a comma separates nothing.
    let mut depth = 0_usize;
    let parts = value.split_inclusive(['[', ']', '{', '}', ',']).filter(|part| {
        let inside = depth > 0;
        match part.chars().last() {
            Some('[' | '{') => depth += 1,
            Some(']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        inside
    });
    let mut parts = parts.map(|part| part.trim_end_matches(['[', ']', '{', '}', ',']).trim());
    parts.any(|part| is_number(part.rsplit_once(": ").map_or(part, |(_, value)| value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        unexplained(text).into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn a_number_needs_a_comment_on_its_line_above_it_or_at_the_block_that_holds_it() {
        for explained in [
            "A: 1 # why",
            "# why\nA: 1",
            "A: # why\n  B: 1\n  C: 2",
            "# why\nA:\n  B: { C: 1 }",
            "A:\n  # why\n  - 1",
        ] {
            assert!(lines(explained).is_empty(), "{explained}");
        }
        for (text, line) in [
            ("A: 1", "A: 1"),
            ("A: 1.5", "A: 1.5"),
            ("# why\nA: 1\nB: 2", "B: 2"),
            ("A: # why\n  B:\n    C: 1", "C: 1"),
            ("A: { B: 1, C: x }", "A: { B: 1, C: x }"),
            ("A: [x, 1]", "A: [x, 1]"),
            ("A: !Equals [!Ref B, 0]", "A: !Equals [!Ref B, 0]"),
            ("A:\n  - 1", "- 1"),
            ("# why\n\nA: x\nB: 1", "B: 1"),
        ] {
            assert_eq!(lines(text), [line], "{text}");
        }
    }

    #[test]
    fn a_text_is_no_number() {
        for text in [
            "A: \"1\"",
            "A: '1'",
            "A: 3.0.3",
            "A: arn:x:1",
            "A: Results, 1 to 100, 25 where absent",
            "A: |-\n  B: 1\nC: x",
            "A: !Sub |\n  {\"x\": 1}",
            "A: >-\n  1",
            "A: \"x\\\n  1\\\n  2\"",
            "A: \"{% $x + 1 %}\"",
            "2010: x",
        ] {
            assert!(lines(text).is_empty(), "{text}");
        }
        assert_eq!(lines("A: |\n  x\nB: 1"), ["B: 1"]);
    }
}

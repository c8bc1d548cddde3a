//! Reads a template into its tree, with the white-space rules of Velocity 1.7: a directive takes the rest of
//! its line when only blanks follow it, and `#set` also takes the blanks before it where they follow no text.
//!
//! `scripts/referees` compares it with Velocity itself.

use super::ast::{Expression, Node, Operator, Place, Reference, Step, TemplateError};

pub(super) fn parse(source: &str) -> Result<Vec<Node>, TemplateError> {
    parse_from(Parser { source, at: 0, in_text: false })
}

fn parse_from(mut parser: Parser<'_>) -> Result<Vec<Node>, TemplateError> {
    let (nodes, end) = parser.block()?;
    match end {
        End::OfText => Ok(nodes),
        _ => Err(parser.error("this directive closes nothing")),
    }
}

/// What ends a block.
enum End {
    OfText,
    OfBlock,
    Else,
    ElseIf(Expression),
}

/// The part of a block that is read.
#[derive(Default)]
struct Block {
    nodes: Vec<Node>,
    /// The text after the last node.
    text: String,
    /// Where in `text` the last comment ends: `#set` takes no blanks before that.
    comment_end: usize,
    /// Where a reference ends with a property: a `##` there begins no comment.
    property: Option<usize>,
}

impl Block {
    /// Makes the text a node.
    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.nodes.push(Node::Text(std::mem::take(&mut self.text)));
        }
    }
}

struct Parser<'s> {
    source: &'s str,
    at: usize,
    /// Whether it reads a text in double quotes, which is a template too.
    in_text: bool,
}

/// From the loosest binding to the tightest.
#[rustfmt::skip]
const LEVELS: [&[(&str, Operator)]; 6] = [
    &[("||", Operator::Or), ("or", Operator::Or)],
    &[("&&", Operator::And), ("and", Operator::And)],
    &[("==", Operator::Equal), ("eq", Operator::Equal), ("!=", Operator::NotEqual), ("ne", Operator::NotEqual)],
    &[
        ("<=", Operator::LessOrEqual), ("le", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual), ("ge", Operator::GreaterOrEqual),
        ("<", Operator::Less), ("lt", Operator::Less), (">", Operator::Greater), ("gt", Operator::Greater),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)],
];

impl<'s> Parser<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Eats an operator. One in letters ends where a name would.
    fn operator(&mut self, token: &str) -> bool {
        if token.starts_with(is_identifier_start) { self.word(token) } else { self.eat(token) }
    }

    fn expect(&mut self, token: &str) -> Result<(), TemplateError> {
        self.blanks();
        if self.eat(token) { Ok(()) } else { Err(self.error(&format!("expected `{token}`"))) }
    }

    /// Skips white space inside a directive.
    fn blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn place(&self, at: usize) -> Place {
        let before = &self.source[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    fn error(&self, message: &str) -> TemplateError {
        TemplateError::new(self.place(self.at), message)
    }

    /// Reads to the directive that ends this block.
    fn block(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut block = Block::default();
        while let Some(next) = self.peek() {
            self.check_end_and_escapes(next)?;
            let rest = self.rest();
            match next {
                '$' if starts_reference(rest) => self.read_reference(&mut block)?,
                '$' if rest.starts_with("$!")
                    && !starts_reference(&rest[2..])
                    && !starts_number_sign(&rest[2..]) =>
                {
                    // The mark of a quiet reference goes, though there is none.
                    block.text.push('$');
                    self.at += 2;
                }
                '#' if rest.starts_with("##") && block.property != Some(self.at) => {
                    self.comment(&mut block)?
                }
                '#' if rest.starts_with("#*") => {
                    let end = rest[2..].find("*#").ok_or_else(|| self.error("this comment is not closed"))?;
                    self.at += end + 4;
                    block.comment_end = block.text.len();
                }
                '#' if rest.starts_with("#[[") => {
                    let end = rest.find("]]#").ok_or_else(|| self.error("`#[[` is not closed"))?;
                    block.text.push_str(&rest[3..end]);
                    self.at += end + 3;
                    block.comment_end = block.text.len();
                }
                '#' if starts_directive(rest) => {
                    if let Some(end) = self.directive(&mut block)? {
                        block.flush();
                        return Ok((block.nodes, end));
                    }
                    block.comment_end = 0;
                }
                other => {
                    block.text.push(other);
                    self.at += other.len_utf8();
                }
            }
        }
        block.flush();
        Ok((block.nodes, End::OfText))
    }

    /// Refuses what Velocity cannot read, or reads as nobody means it.
    fn check_end_and_escapes(&self, next: char) -> Result<(), TemplateError> {
        let rest = self.rest();
        let reason = match next {
            // The reader of Velocity 1.7 has no token for them.
            '$' | '#' if !self.in_text && ["$", "#", "$!"].contains(&rest) => {
                "a template cannot end with this"
            }
            '\\' if starts_reference(&rest[1..]) || starts_directive(&rest[1..]) => {
                "an escaped reference or directive is not emulated"
            }
            '$' if starts_reference(rest) => return Ok(()),
            '$' | '#' if starts_set(&rest[1..]) || (next == '$' && starts_markup(&rest[1..])) => {
                "a $ or # right before a directive is not emulated"
            }
            '$' if rest.starts_with("${$") => "`${` begins no reference",
            _ => return Ok(()),
        };
        Err(self.error(reason))
    }

    fn read_reference(&mut self, block: &mut Block) -> Result<(), TemplateError> {
        block.flush();
        let reference = self.reference()?;
        if matches!(reference.steps.last(), Some(Step::Property(_))) && !reference.source.ends_with('}') {
            block.property = Some(self.at);
        }
        block.nodes.push(Node::Reference(reference));
        block.comment_end = 0;
        Ok(())
    }

    /// A comment to the end of its line.
    fn comment(&mut self, block: &mut Block) -> Result<(), TemplateError> {
        let rest = self.rest();
        let comment = rest.find('\n').map_or(rest, |end| &rest[..=end]);
        if !self.in_text && comment[2..].ends_with(['$', '#']) {
            return Err(self.error("a template cannot end with a comment that ends with $ or #"));
        }
        self.at += comment.len();
        block.comment_end = block.text.len();
        Ok(())
    }

    /// Reads a directive; `Some` when it ends the block.
    fn directive(&mut self, block: &mut Block) -> Result<Option<End>, TemplateError> {
        let begin = self.at;
        self.at += 1;
        let braced = self.eat("{");
        let name = self.identifier()?;
        if braced && !self.eat("}") {
            return Err(self.error("expected `}`"));
        }
        match name.as_str() {
            "set" => self.set(block)?,
            "if" => {
                block.flush();
                let condition = self.condition()?;
                block.nodes.push(self.branches(condition)?);
            }
            "foreach" => {
                block.flush();
                block.nodes.push(self.foreach()?);
            }
            "elseif" => return Ok(Some(End::ElseIf(self.condition()?))),
            "else" => {
                self.end_of_line();
                return Ok(Some(End::Else));
            }
            "end" => {
                self.end_of_line();
                return Ok(Some(End::OfBlock));
            }
            other => {
                let reason = format!("the directive #{other} is not emulated");
                return Err(TemplateError::new(self.place(begin), &reason));
            }
        }
        Ok(None)
    }

    fn set(&mut self, block: &mut Block) -> Result<(), TemplateError> {
        if block.text[block.comment_end..].trim_start_matches([' ', '\t']).is_empty() {
            block.text.truncate(block.comment_end);
        }
        block.flush();
        // The parenthesis belongs to the token, which has spaces and no other blanks.
        self.at += self.rest().len() - self.rest().trim_start_matches(' ').len();
        if !self.eat("(") {
            return Err(self.error("expected `(`"));
        }
        self.blanks();
        if !starts_reference(self.rest()) {
            return Err(self.error("#set needs a reference on its left side"));
        }
        if self.rest()[1..].starts_with(['!', '{']) {
            // Velocity 1.7 assigns to a variable of another name.
            return Err(self.error("#set assigns nothing to a reference with braces or a !"));
        }
        let target = self.reference()?;
        self.expect("=")?;
        let value = self.expression()?;
        self.close()?;
        block.nodes.push(Node::Set(target, value));
        Ok(())
    }

    fn condition(&mut self) -> Result<Expression, TemplateError> {
        self.expect("(")?;
        let condition = self.expression()?;
        self.close()?;
        Ok(condition)
    }

    fn branches(&mut self, first: Expression) -> Result<Node, TemplateError> {
        let mut branches = Vec::new();
        let mut condition = first;
        loop {
            let (body, end) = self.block()?;
            branches.push((condition, body));
            match end {
                End::OfBlock => return Ok(Node::If { branches, otherwise: Vec::new() }),
                End::ElseIf(next) => condition = next,
                End::Else => {
                    let (otherwise, End::OfBlock) = self.block()? else {
                        return Err(self.error("#else must be followed by #end"));
                    };
                    return Ok(Node::If { branches, otherwise });
                }
                End::OfText => return Err(self.error("#if without #end")),
            }
        }
    }

    fn foreach(&mut self) -> Result<Node, TemplateError> {
        self.expect("(")?;
        self.expect("$")?;
        let variable = self.identifier()?;
        self.expect("in")?;
        self.blanks();
        let list = self.primary()?;
        self.close()?;
        match self.block()? {
            (body, End::OfBlock) => Ok(Node::Foreach { variable, list, body }),
            _ => Err(self.error("#foreach without #end")),
        }
    }

    /// The closing parenthesis of a directive, and the rest of its line when that is blank.
    fn close(&mut self) -> Result<(), TemplateError> {
        self.expect(")")?;
        self.end_of_line();
        Ok(())
    }

    fn end_of_line(&mut self) {
        let after = self.rest().trim_start_matches([' ', '\t']);
        let length = match after {
            _ if after.starts_with("\r\n") => 2,
            _ if after.starts_with('\n') => 1,
            _ => return,
        };
        self.at = self.source.len() - after.len() + length;
    }

    fn identifier(&mut self) -> Result<String, TemplateError> {
        let rest = self.rest();
        let length = rest.find(|c: char| !is_identifier_part(c)).unwrap_or(rest.len());
        if !rest.starts_with(is_identifier_start) {
            return Err(self.error("expected a name"));
        }
        self.at += length;
        Ok(rest[..length].to_owned())
    }

    fn reference(&mut self) -> Result<Reference, TemplateError> {
        let begin = self.at;
        let place = self.place(begin);
        self.expect("$")?;
        let quiet = self.eat("!");
        let formal = self.eat("{");
        let root = self.identifier()?;
        let mut steps = Vec::new();
        loop {
            let rest = self.rest();
            if rest.starts_with('.') && rest[1..].starts_with(is_identifier_start) {
                self.at += 1;
                let name = self.identifier()?;
                if self.eat("(") {
                    steps.push(Step::Method(name, self.list_until(")")?));
                } else {
                    steps.push(Step::Property(name));
                }
            } else if rest.starts_with('[') {
                self.at += 1;
                self.blanks();
                let index = self.primary()?;
                self.expect("]")?;
                steps.push(Step::Index(index));
            } else {
                break;
            }
        }
        if formal && !self.eat("}") {
            return Err(self.error("expected `}`"));
        }
        Ok(Reference { source: self.source[begin..self.at].to_owned(), quiet, root, steps, place })
    }

    /// Members between commas, up to `close`.
    fn members<T>(
        &mut self,
        close: &str,
        member: impl Fn(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<Vec<T>, TemplateError> {
        let mut members = Vec::new();
        if self.eat(close) {
            return Ok(members);
        }
        loop {
            self.blanks();
            members.push(member(self)?);
            self.blanks();
            if self.eat(close) {
                return Ok(members);
            }
            self.expect(",")?;
        }
    }

    /// Arguments or the members of a list. Velocity 1.7 takes literals and references here, not arithmetic,
    /// and no blanks in an empty list.
    fn list_until(&mut self, close: &str) -> Result<Vec<Expression>, TemplateError> {
        self.members(close, Self::primary)
    }

    fn expression(&mut self) -> Result<Expression, TemplateError> {
        self.level(0)
    }

    fn level(&mut self, level: usize) -> Result<Expression, TemplateError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        loop {
            self.blanks();
            let Some((_, operator)) = operators.iter().find(|(token, _)| self.operator(token)) else {
                return Ok(left);
            };
            if *operator == Operator::Subtract && self.rest().starts_with(|c: char| c.is_ascii_digit()) {
                // Velocity reads the sign as part of the number, and so two values without an operator.
                return Err(self.error("a minus needs a blank before a number"));
            }
            let right = self.level(level + 1)?;
            left = Expression::Binary(*operator, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self) -> Result<Expression, TemplateError> {
        self.blanks();
        if self.operator("!") || self.operator("not") {
            return Ok(Expression::Not(Box::new(self.unary()?)));
        }
        if self.eat("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Expression, TemplateError> {
        let rest = self.rest();
        match self.peek() {
            Some('$') if starts_reference(rest) => Ok(Expression::Reference(self.reference()?)),
            Some('\'') => Ok(Expression::Text(self.quoted('\'')?)),
            Some('"') => {
                let place = self.place(self.at);
                let text = self.quoted('"')?;
                let inner = Parser { source: &text, at: 0, in_text: true };
                let nodes = parse_from(inner).map_err(|error| TemplateError::new(place, &error.message))?;
                Ok(Expression::Interpolated(nodes))
            }
            Some('[') => self.list_or_range(),
            Some('{') => self.map(),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            _ if self.word("true") => Ok(Expression::Boolean(true)),
            _ if self.word("false") => Ok(Expression::Boolean(false)),
            _ => Err(self.error("expected a value")),
        }
    }

    fn word(&mut self, word: &str) -> bool {
        let continues = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let found = self.rest().strip_prefix(word).is_some_and(|after| !after.starts_with(continues));
        if found {
            self.at += word.len();
        }
        found
    }

    /// A string literal; a doubled quote stands for one.
    fn quoted(&mut self, quote: char) -> Result<String, TemplateError> {
        let begin = self.at;
        let mut text = String::new();
        self.at += 1;
        while let Some(next) = self.peek() {
            self.at += next.len_utf8();
            if next != quote {
                text.push(next);
            } else if self.peek() == Some(quote) {
                self.at += 1;
                text.push(quote);
            } else {
                return Ok(text);
            }
        }
        Err(TemplateError::new(self.place(begin), "this text is not closed"))
    }

    fn number(&mut self) -> Result<Expression, TemplateError> {
        let rest = self.rest();
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let sign = usize::from(rest.starts_with('-'));
        let whole = sign + digits(&rest[sign..]);
        // `1..3` is a range, not a decimal.
        let fraction = rest[whole..].strip_prefix('.').map_or(0, digits);
        let length = if fraction == 0 { whole } else { whole + 1 + fraction };
        let text = &rest[..length];
        let number = match fraction {
            0 => text.parse().map(Expression::Integer).ok(),
            _ => text.parse().map(Expression::Decimal).ok(),
        };
        let number = number.ok_or_else(|| self.error("this is not a number"))?;
        self.at += length;
        Ok(number)
    }

    fn list_or_range(&mut self) -> Result<Expression, TemplateError> {
        self.at += 1;
        let begin = self.at;
        if !self.rest().starts_with(']') {
            self.blanks();
            let first = self.primary()?;
            self.blanks();
            if self.eat("..") {
                self.blanks();
                let last = self.primary()?;
                self.expect("]")?;
                return Ok(Expression::Range(Box::new(first), Box::new(last)));
            }
        }
        self.at = begin;
        Ok(Expression::List(self.list_until("]")?))
    }

    fn map(&mut self) -> Result<Expression, TemplateError> {
        self.at += 1;
        self.blanks();
        let entries = self.members("}", |parser| {
            let key = parser.primary()?;
            parser.expect(":")?;
            parser.blanks();
            Ok((key, parser.primary()?))
        })?;
        Ok(Expression::Map(entries))
    }
}

fn is_identifier_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_identifier_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn starts_reference(text: &str) -> bool {
    let Some(after) = text.strip_prefix('$') else { return false };
    let after = after.strip_prefix('!').unwrap_or(after);
    after.strip_prefix('{').unwrap_or(after).starts_with(is_identifier_start)
}

/// A `#set`, whose token begins with the blanks before it.
fn starts_set(text: &str) -> bool {
    let rest = text.trim_start_matches([' ', '\t']);
    rest.starts_with("#set") || rest.starts_with("#{set}")
}

/// A directive, a comment or unparsed text; after the mark of a quiet reference too.
fn starts_markup(text: &str) -> bool {
    let quiet = text.strip_prefix('!');
    let text = quiet.unwrap_or(text);
    starts_set(text)
        || starts_directive(text)
        || text.starts_with("#*")
        || text.starts_with("#[[")
        || (quiet.is_some() && text.starts_with("##"))
}

/// `#5`, which Velocity reads as text.
fn starts_number_sign(text: &str) -> bool {
    text.strip_prefix('#').is_some_and(|after| after.starts_with(|c: char| c.is_ascii_digit() || c == '_'))
}

fn starts_directive(text: &str) -> bool {
    let Some(after) = text.strip_prefix('#') else { return false };
    after.strip_prefix('{').unwrap_or(after).starts_with(|c: char| c.is_ascii_alphabetic())
}

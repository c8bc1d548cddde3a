//! The tree of a mapping template: text, references and directives.

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
}

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {}, column {}: {message}", place.line, place.column)]
pub struct TemplateError {
    pub(super) place: Place,
    pub(super) message: String,
}

impl TemplateError {
    pub(super) fn new(place: Place, message: &str) -> Self {
        Self { place, message: message.to_owned() }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Reference(Reference),
    Set(Reference, Expression),
    If { branches: Vec<(Expression, Vec<Node>)>, otherwise: Vec<Node> },
    Foreach { variable: String, list: Expression, body: Vec<Node> },
}

/// `$root.step.step`.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    /// Its own text, which an unresolved reference renders.
    pub source: String,
    /// Whether it is written `$!x`, which renders nothing where it is unresolved.
    pub quiet: bool,
    pub root: String,
    pub steps: Vec<Step>,
    pub place: Place,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Property(String),
    Method(String, Vec<Expression>),
    Index(Expression),
}

#[derive(Debug, Clone)]
pub(super) enum Expression {
    Integer(i64),
    Decimal(f64),
    Boolean(bool),
    Text(String),
    Interpolated(Vec<Node>),
    List(Vec<Expression>),
    Map(Vec<(Expression, Expression)>),
    Range(Box<Expression>, Box<Expression>),
    Reference(Reference),
    Not(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    pub fn is_arithmetic(self) -> bool {
        matches!(self, Self::Add | Self::Subtract | Self::Multiply | Self::Divide | Self::Remainder)
    }
}

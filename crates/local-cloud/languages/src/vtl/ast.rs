//! What a mapping template is once it is read: text, references and directives.

/// One piece of a template.
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
    /// As written, since an unresolved reference renders as its own text.
    pub source: String,
    /// `$!x`: renders nothing where it is unresolved.
    pub quiet: bool,
    pub root: String,
    pub steps: Vec<Step>,
    /// Where it begins, for a refusal.
    pub place: Place,
}

/// What follows the root of a reference.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Property(String),
    Method(String, Vec<Expression>),
    Index(Expression),
}

/// Line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub line: usize,
    pub column: usize,
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

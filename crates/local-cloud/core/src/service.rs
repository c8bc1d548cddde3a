//! What a service is to the rest of the local cloud: one static row with its actions, its
//! CloudFormation types and its chores. Dispatch, REST routes, refusals, identities and the tables of the
//! README are read from these rows; `run/src/services.rs` lists them, and nothing else does.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::Value;

use crate::calls::Permission;
use crate::cloud::{Cloud, Settings};
use crate::error::AwsError;
use crate::resource::{Refusal, Resource};
use crate::store::{Store, StoreError};

/// A service of AWS, as far as it is emulated.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name in ARNs and signatures: `sqs`, `events`, `states`.
    pub name: &'static str,
    /// How its clients speak to it over HTTP.
    pub protocols: &'static [Protocol],
    /// Creates its tables, and keeps its state.
    pub open: fn(&mut Opening<'_>) -> Result<(), StoreError>,
    /// Checks that this version can read what an earlier run wrote.
    pub check: fn(&Cloud) -> Result<(), StoreError>,
    /// Starts its background tasks, after every resource is deployed; they end when
    /// `cloud.stopping` is cancelled.
    pub start: fn(&Arc<Cloud>),
    /// What it does from time to time.
    pub chores: &'static [Chore],
    /// How many deliveries to the resource with this ARN it still has to make.
    pub undelivered: fn(&Cloud, &str) -> Result<u64, StoreError>,
    /// Its API actions.
    pub actions: &'static [Action],
    /// Its CloudFormation types.
    pub types: &'static [Type],
}

impl Service {
    /// Where the bodies of its requests pass through unread, if they do. Such a service records its calls
    /// itself, since it reads them anyway.
    pub fn forward(&self) -> Option<Forward> {
        self.protocols.iter().find_map(|protocol| match protocol {
            Protocol::Json { forward, .. } => *forward,
            _ => None,
        })
    }

    /// A service without state, tasks, actions and types: rows begin with it and say what they have.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            protocols: &[],
            open: |_| Ok(()),
            check: |_| Ok(()),
            start: |_| {},
            chores: &[],
            undelivered: |_, _| Ok(0),
            actions: &[],
            types: &[],
        }
    }
}

/// A protocol of AWS.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    /// AWS JSON 1.0 or 1.1: the action stands in `X-Amz-Target`.
    Json {
        /// `application/x-amz-json-1.0` or `-1.1`.
        content_type: &'static str,
        /// What stands before the dot in `X-Amz-Target`.
        targets: &'static [&'static str],
        /// What stands before the code in `__type` of an error.
        error_prefix: &'static str,
        /// Where the bodies pass through unread, in place of [`Action::call`].
        forward: Option<Forward>,
    },
    /// A form with an `Action`; answers are XML.
    Query {
        /// The API version, by which an unsigned request is known.
        version: &'static str,
        /// The XML namespace of the answers.
        namespace: &'static str,
    },
    /// REST with JSON bodies: the action follows from method and path ([`Action::route`]).
    Rest {
        /// Whether a path belongs to this service, where nobody has signed.
        owns: fn(&str) -> bool,
    },
    /// S3's REST with XML.
    S3,
}

/// The content type of AWS JSON 1.0.
pub const JSON_1_0: &str = "application/x-amz-json-1.0";
/// The content type of AWS JSON 1.1.
pub const JSON_1_1: &str = "application/x-amz-json-1.1";

/// An HTTP status and a body, as they go over the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// Answers an action with the very bytes that go over the wire.
pub type Forward = for<'a> fn(&'a Arc<Cloud>, &'a str, Bytes) -> BoxFuture<'a, Result<Reply, AwsError>>;

/// An API action.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    /// Its name in the API reference.
    pub name: &'static str,
    /// What it does; input and answer have the members of the API reference.
    pub call: Call,
    /// The permissions that a request needs.
    pub needs: Needs,
    /// Its method, path and success status, where the protocol is REST.
    pub route: Option<(&'static str, &'static str, u16)>,
}

/// Answers an action after waiting for something.
pub type Later = for<'a> fn(&'a Arc<Cloud>, Value) -> BoxFuture<'a, Answer>;

/// The answer of an action.
pub type Answer = Result<Value, AwsError>;

/// How an action is answered.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    /// At once.
    Now(fn(&Arc<Cloud>, Value) -> Answer),
    /// After waiting for something.
    Later(Later),
    /// Refused by its name: not emulated, or answered by the endpoint only.
    Refused,
}

/// The permissions (action and ARN) that a request of an action needs, as IAM names them.
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>
pub type Needs = fn(&Cloud, Request<'_>) -> Vec<Permission>;

/// A request whose permissions are asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The action's name.
    pub action: &'a str,
    /// Its input.
    pub input: &'a Value,
}

impl Request<'_> {
    /// A text member of the input.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.input[member].as_str()
    }

    /// The permission of the action's own name on one resource.
    pub fn own(&self, resource: impl Into<String>) -> Vec<Permission> {
        vec![(format!("{}:{}", self.service, self.action), resource.into())]
    }
}

impl Action {
    /// An action that is answered at once; it needs the permission of its name on `*`.
    pub const fn new(name: &'static str, call: fn(&Arc<Cloud>, Value) -> Answer) -> Self {
        Self { call: Call::Now(call), ..Self::refused(name) }
    }

    /// An action that waits for something.
    pub const fn later(name: &'static str, call: Later) -> Self {
        Self { call: Call::Later(call), ..Self::refused(name) }
    }

    /// An action that is not emulated, and refused by its name.
    pub const fn refused(name: &'static str) -> Self {
        Self { name, call: Call::Refused, needs: |_, request| request.own("*"), route: None }
    }

    /// The permissions that it needs.
    pub const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    /// Its method, path and success status in REST; names in braces are members of the input.
    pub const fn route(self, method: &'static str, path: &'static str, status: u16) -> Self {
        Self { route: Some((method, path, status)), ..self }
    }
}

/// An async function of two arguments as the rows hold it.
#[macro_export]
macro_rules! later {
    ($function:path) => {
        |cloud, input| Box::pin($function(cloud, input))
    };
}

/// A CloudFormation type.
#[derive(Debug, Clone, Copy)]
pub struct Type {
    /// For example `AWS::SQS::Queue`.
    pub name: &'static str,
    /// How far it is emulated.
    pub level: Level,
    /// What a user has to know about that.
    pub note: &'static str,
    /// What `Ref` and `Fn::GetAtt` give.
    pub identity: Identity,
    /// Makes the resource, or brings it up to date.
    pub deploy: Deploy,
    /// What would be lost with a resource, in words; `None` where that is nothing.
    pub holds: Holds,
    /// Removes a resource that the template has no more; false where there is nothing to remove, or
    /// where it is kept.
    pub remove: Remove,
}

/// How far a type is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Behaves as on AWS, as far as its properties are accepted.
    Emulated,
    /// Behaves alike, with the differences in the note.
    Approximated,
    /// Accepted, and without any effect here; the note says why that is safe.
    Inert,
}

/// How a resource is made.
#[derive(Debug, Clone, Copy)]
pub enum Deploy {
    /// At once.
    Now(fn(&Arc<Cloud>, &Resource) -> Result<(), Refusal>),
    /// After waiting for something.
    Later(DeployLater),
    /// Not at all. The names are all properties of its page in the CloudFormation template reference:
    /// what CloudFormation refuses is refused here too.
    Inert(&'static [&'static str]),
}

/// See [`Deploy::Later`].
pub type DeployLater = for<'a> fn(&'a Arc<Cloud>, &'a Resource) -> BoxFuture<'a, Result<(), Refusal>>;

/// See [`Type::holds`].
pub type Holds = for<'a> fn(&'a Arc<Cloud>, &'a Named) -> BoxFuture<'a, Result<Option<String>, AwsError>>;

/// See [`Type::remove`].
pub type Remove = for<'a> fn(&'a Arc<Cloud>, &'a Named) -> BoxFuture<'a, Result<bool, AwsError>>;

/// A resource of an earlier run's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The ARN, or the physical id where there is none.
    pub id: String,
}

impl Named {
    /// The last part of its id, the name that people know it by.
    pub fn name(&self) -> &str {
        self.id.rsplit([':', '/']).next().unwrap_or(&self.id)
    }
}

impl Type {
    /// An emulated type that holds nothing of its own.
    pub const fn new(name: &'static str, note: &'static str, identity: Identity, deploy: Deploy) -> Self {
        Self {
            name,
            level: Level::Emulated,
            note,
            identity,
            deploy,
            holds: |_, _| Box::pin(std::future::ready(Ok(None))),
            remove: |_, _| Box::pin(std::future::ready(Ok(false))),
        }
    }

    /// A type that has no effect here.
    pub const fn inert(
        name: &'static str,
        note: &'static str,
        identity: Identity,
        properties: &'static [&'static str],
    ) -> Self {
        Self { level: Level::Inert, ..Self::new(name, note, identity, Deploy::Inert(properties)) }
    }

    /// The same, with differences from AWS that its note names.
    pub const fn approximated(self) -> Self {
        Self { level: Level::Approximated, ..self }
    }

    /// With something that would be lost with it.
    pub const fn holds(self, holds: Holds) -> Self {
        Self { holds, ..self }
    }

    /// With something to remove.
    pub const fn remove(self, remove: Remove) -> Self {
        Self { remove, ..self }
    }
}

/// `3 messages`, or nothing: for [`Type::holds`].
pub fn counted(count: u64, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    }
}

/// An answer, or null where what was asked for does not exist: that holds nothing, since its user may
/// have deleted it. Any other error says nothing about what it holds.
///
/// # Errors
/// Every other error.
pub fn unless_missing(answer: Result<Value, AwsError>) -> Result<Value, AwsError> {
    let missing = ["NotFound", "NonExistent", "DoesNotExist", "NoSuchBucket"];
    match answer {
        Err(error) if missing.iter().any(|part| error.code.contains(part)) => Ok(Value::Null),
        other => other,
    }
}

/// What names a resource, what `Ref` gives and which attributes `Fn::GetAtt` knows; from "Return values"
/// of the type's page in the CloudFormation template reference. Texts hold placeholders: `{name}`,
/// `{bare}` (a name without its slash), `{region}`, `{account}`, `{uuid}`, `{stack_uuid}`, `{id}` and
/// `{root}` (ten characters, as API Gateway makes them), `{arn}`, `{ref}`, `{bus}` (of a rule, with its
/// slash), `{path}` (of IAM), and `{:Property}` for another property of the resource.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The property that names it; absent, CloudFormation makes a name.
    pub named_by: Option<&'static str>,
    /// The longest name, for the names that CloudFormation makes.
    pub max_length: usize,
    /// What `Ref` gives.
    pub reference: &'static str,
    /// The ARN, empty for types without one.
    pub arn: &'static str,
    /// What `Fn::GetAtt` gives.
    pub attributes: &'static [(&'static str, &'static str)],
    /// Whether names that CloudFormation makes are in lower case.
    pub lower_case: bool,
}

impl Identity {
    /// The ARN as attribute `Arn`: what most types have.
    pub const ARN: (&'static str, &'static str) = ("Arn", "{arn}");

    /// An identity of a name alone, made up by CloudFormation.
    pub const NAME: Self = Self {
        named_by: None,
        max_length: 128,
        reference: "{name}",
        arn: "",
        attributes: &[],
        lower_case: false,
    };

    /// A name that CloudFormation makes up, of so many characters at most.
    pub const fn made_up(max_length: usize) -> Self {
        Self { max_length, ..Self::NAME }
    }

    /// A name that a property gives.
    pub const fn named(property: &'static str, max_length: usize) -> Self {
        Self { named_by: Some(property), max_length, ..Self::NAME }
    }

    /// With names that CloudFormation makes in lower case.
    pub const fn lower_case(self) -> Self {
        Self { lower_case: true, ..self }
    }

    /// What `Ref` gives, where that is not the name.
    pub const fn reference(self, reference: &'static str) -> Self {
        Self { reference, ..self }
    }

    /// Its ARN.
    pub const fn arn(self, arn: &'static str) -> Self {
        Self { arn, ..self }
    }

    /// What `Fn::GetAtt` gives.
    pub const fn attributes(self, attributes: &'static [(&'static str, &'static str)]) -> Self {
        Self { attributes, ..self }
    }
}

/// Something to be done again and again.
#[derive(Debug, Clone, Copy)]
pub struct Chore {
    /// What is deleted, for the log.
    pub of: &'static str,
    /// How often.
    pub every: Duration,
    /// How much is done at most before others may write.
    pub portion: usize,
    /// Whether it deletes for good, by the time.
    pub deletes: bool,
    /// Does so much at most; how much it did.
    pub work: Work,
}

/// See [`Chore::work`].
pub type Work = for<'a> fn(&'a Arc<Cloud>, usize) -> BoxFuture<'a, Result<usize, AwsError>>;

/// The states of all services, by their types.
#[derive(Default)]
pub(crate) struct States(HashMap<TypeId, Box<dyn Any + Send + Sync>>);

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states", self.0.len())
    }
}

impl States {
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

/// A service being opened.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Where its tables are.
    pub store: &'a Store,
    /// What is fixed for the run.
    pub settings: &'a Settings,
    pub(crate) states: States,
}

impl Opening<'_> {
    /// Keeps a state, for [`Cloud::state`].
    pub fn keep<T: Any + Send + Sync>(&mut self, state: T) {
        self.states.0.insert(TypeId::of::<T>(), Box::new(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_holds_nothing() {
        let answer = |code: &str| unless_missing(Err(AwsError::client(code, "")));
        for code in
            ["ResourceNotFoundException", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"]
                .into_iter()
                .chain(["StateMachineDoesNotExist", "NoSuchBucket"])
        {
            assert_eq!(answer(code), Ok(Value::Null), "{code}");
        }
        for code in ["ValidationException", "InternalFailure", "NoSuchUpload"] {
            assert!(answer(code).is_err(), "{code}");
        }
    }
}

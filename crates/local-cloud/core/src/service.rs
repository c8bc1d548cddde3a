//! A service, as one static row with its actions, CloudFormation types and periodic chores. Dispatch, REST
//! routes, refusals, identities and the tables of the README come from these rows. `run/src/services.rs` is
//! the only list of them.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::ready;
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

#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name in ARNs and signatures: `sqs`, `events`, `states`.
    pub name: &'static str,
    pub protocols: &'static [Protocol],
    /// Creates its tables, and keeps its state.
    pub open: fn(&mut Opening<'_>) -> Result<(), StoreError>,
    /// Checks that this version can read what an earlier run wrote.
    pub check: fn(&Cloud) -> Result<(), StoreError>,
    /// Starts its background tasks, after every resource is deployed. They end when `cloud.stopping` is
    /// cancelled.
    pub start: fn(&Arc<Cloud>),
    pub chores: &'static [Chore],
    /// The number of deliveries to the resource with this ARN that it still has to make.
    pub undelivered: fn(&Cloud, &str) -> Result<u64, StoreError>,
    pub actions: &'static [Action],
    pub types: &'static [Type],
}

impl Service {
    /// The function that takes the bodies of its requests unread, if it has one. Such a service reads the
    /// bodies and records its calls itself.
    pub fn forward(&self) -> Option<Forward> {
        self.protocols.iter().find_map(|protocol| match protocol {
            Protocol::Json { forward, .. } => *forward,
            _ => None,
        })
    }

    /// A service without state, tasks, actions and types. A row begins with it and adds what it has.
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

/// A protocol of AWS over HTTP.
#[derive(Debug, Clone, Copy)]
pub enum Protocol {
    /// AWS JSON 1.0 or 1.1: the header `X-Amz-Target` names the action.
    Json {
        /// [`JSON_1_0`] or [`JSON_1_1`].
        content_type: &'static str,
        /// The part of `X-Amz-Target` before the dot.
        targets: &'static [&'static str],
        /// The part of `__type` of an error before the code.
        error_prefix: &'static str,
        /// Takes the bodies unread, in place of [`Action::call`].
        forward: Option<Forward>,
    },
    /// A form with a field `Action`; answers are XML.
    Query {
        /// The API version, which tells an unsigned request's service.
        version: &'static str,
        /// The XML namespace of the answers.
        namespace: &'static str,
    },
    /// REST with JSON bodies: method and path give the action ([`Action::route`]).
    Rest {
        /// Whether a path belongs to this service, for unsigned requests.
        owns: fn(&str) -> bool,
    },
    /// S3's REST with XML.
    S3,
}

pub const JSON_1_0: &str = "application/x-amz-json-1.0";
pub const JSON_1_1: &str = "application/x-amz-json-1.1";

/// An HTTP status and a body, as they go over the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub body: Bytes,
}

/// Answers an action (the second argument) with the very bytes that go over the wire.
pub type Forward = for<'a> fn(&'a Arc<Cloud>, &'a str, Bytes) -> BoxFuture<'a, Result<Reply, AwsError>>;

/// An API action. Its input and answer have the members of the API reference.
#[derive(Debug, Clone, Copy)]
pub struct Action {
    /// Its name in the API reference.
    pub name: &'static str,
    pub call: Call,
    pub needs: Needs,
    /// Method, path and success status, where the protocol is REST. Names in braces are members of the input.
    pub route: Option<(&'static str, &'static str, u16)>,
}

pub type Answer = Result<Value, AwsError>;
pub type Later = for<'a> fn(&'a Arc<Cloud>, Value) -> BoxFuture<'a, Answer>;

/// How an action answers.
#[derive(Debug, Clone, Copy)]
pub enum Call {
    /// At once.
    Now(fn(&Arc<Cloud>, Value) -> Answer),
    /// After waiting for something.
    Later(Later),
    /// Refused by name: not emulated, or answered by the endpoint only.
    Refused,
}

/// Gives the permissions (action and ARN) that a request of an action needs, as IAM names them.
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html>
pub type Needs = fn(&Cloud, Request<'_>) -> Vec<Permission>;

/// The input of [`Needs`].
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub service: &'a str,
    pub action: &'a str,
    pub input: &'a Value,
}

impl Request<'_> {
    /// A text member of the input.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.input[member].as_str()
    }

    /// The permission named like the action, on one resource.
    pub fn own(&self, resource: impl Into<String>) -> Vec<Permission> {
        vec![(format!("{}:{}", self.service, self.action), resource.into())]
    }
}

impl Action {
    /// An action that answers at once and needs the permission of its name on `*`.
    pub const fn new(name: &'static str, call: fn(&Arc<Cloud>, Value) -> Answer) -> Self {
        Self { call: Call::Now(call), ..Self::refused(name) }
    }

    /// An action that waits for something; see [`later!`](crate::later).
    pub const fn later(name: &'static str, call: Later) -> Self {
        Self { call: Call::Later(call), ..Self::refused(name) }
    }

    /// An action that is not emulated; the error names it.
    pub const fn refused(name: &'static str) -> Self {
        Self { name, call: Call::Refused, needs: |_, request| request.own("*"), route: None }
    }

    pub const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    pub const fn route(self, method: &'static str, path: &'static str, status: u16) -> Self {
        Self { route: Some((method, path, status)), ..self }
    }
}

/// Wraps an async function of two arguments for a row.
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
    pub level: Level,
    /// What a user has to know about the emulation.
    pub note: &'static str,
    /// What `Ref` and `Fn::GetAtt` give.
    pub identity: Identity,
    /// Creates or updates the resource.
    pub deploy: Deploy,
    /// What a resource holds that its removal would lose, in words; `None` where it holds nothing.
    pub holds: Holds,
    /// Removes a resource that is no longer in the template. False where there is nothing to remove, or where
    /// the resource is kept.
    pub remove: Remove,
}

/// How far a type is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Accepted properties behave as on AWS.
    Emulated,
    /// Accepted properties behave as on AWS, with the differences in the note.
    Approximated,
    /// Accepted, and without effect here; the note says why that is safe.
    Inert,
}

#[derive(Debug, Clone, Copy)]
pub enum Deploy {
    /// At once.
    Now(fn(&Arc<Cloud>, &Resource) -> Result<(), Refusal>),
    /// After waiting for something.
    Later(DeployLater),
    /// Not at all. The names are all properties of the type in the CloudFormation template reference; others
    /// are refused, as CloudFormation does.
    Inert(&'static [&'static str]),
}

pub type DeployLater = for<'a> fn(&'a Arc<Cloud>, &'a Resource) -> BoxFuture<'a, Result<(), Refusal>>;
pub type Holds = for<'a> fn(&'a Arc<Cloud>, &'a Named) -> BoxFuture<'a, Result<Option<String>, AwsError>>;
pub type Remove = for<'a> fn(&'a Arc<Cloud>, &'a Named) -> BoxFuture<'a, Result<bool, AwsError>>;

/// A resource of an earlier run's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The ARN, or the physical id where there is none.
    pub id: String,
}

impl Named {
    /// The last part of its id.
    pub fn name(&self) -> &str {
        self.id.rsplit([':', '/']).next().unwrap_or(&self.id)
    }
}

impl Type {
    /// An emulated type that holds nothing, and leaves nothing to remove.
    pub const fn new(name: &'static str, note: &'static str, identity: Identity, deploy: Deploy) -> Self {
        Self {
            name,
            level: Level::Emulated,
            note,
            identity,
            deploy,
            holds: |_, _| Box::pin(ready(Ok(None))),
            remove: |_, _| Box::pin(ready(Ok(false))),
        }
    }

    /// A type without effect here.
    pub const fn inert(
        name: &'static str,
        note: &'static str,
        identity: Identity,
        properties: &'static [&'static str],
    ) -> Self {
        Self { level: Level::Inert, ..Self::new(name, note, identity, Deploy::Inert(properties)) }
    }

    pub const fn approximated(self) -> Self {
        Self { level: Level::Approximated, ..self }
    }

    pub const fn holds(self, holds: Holds) -> Self {
        Self { holds, ..self }
    }

    pub const fn remove(self, remove: Remove) -> Self {
        Self { remove, ..self }
    }
}

/// `3 messages`, or `None` for 0: for [`Type::holds`].
pub fn counted(count: u64, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        _ => Some(format!("{count} {what}s")),
    }
}

/// The answer, or null where the service reports that the resource does not exist: the user has deleted it,
/// so it holds nothing. Any other error stays an error.
pub fn unless_missing(answer: Result<Value, AwsError>) -> Result<Value, AwsError> {
    let missing = ["NotFound", "NonExistent", "DoesNotExist", "NoSuchBucket"];
    match answer {
        Err(error) if missing.iter().any(|part| error.code.contains(part)) => Ok(Value::Null),
        other => other,
    }
}

/// A resource's identity: its name, and what `Ref` and `Fn::GetAtt` give; from "Return values" of the type's
/// page in the CloudFormation template reference. Texts hold placeholders: `{name}`, `{bare}` (a name without
/// its slash), `{region}`, `{account}`, `{uuid}`, `{stack_uuid}`, `{id}` and `{root}` (ten characters, as API
/// Gateway makes them), `{arn}`, `{ref}`, `{bus}` (of a rule, with its slash), `{path}` (of IAM), and
/// `{:Property}` for another property of the resource.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The property that holds the name; CloudFormation makes a name where it is absent.
    pub named_by: Option<&'static str>,
    /// The length limit of names that CloudFormation makes.
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
    /// The attribute `Arn`, which most types have.
    pub const ARN: (&'static str, &'static str) = ("Arn", "{arn}");

    /// A name that CloudFormation makes, and nothing else.
    pub const NAME: Self = Self {
        named_by: None,
        max_length: 128,
        reference: "{name}",
        arn: "",
        attributes: &[],
        lower_case: false,
    };

    /// A name that CloudFormation always makes.
    pub const fn made_up(max_length: usize) -> Self {
        Self { max_length, ..Self::NAME }
    }

    /// A name that a property may give.
    pub const fn named(property: &'static str, max_length: usize) -> Self {
        Self { named_by: Some(property), max_length, ..Self::NAME }
    }

    pub const fn lower_case(self) -> Self {
        Self { lower_case: true, ..self }
    }

    pub const fn reference(self, reference: &'static str) -> Self {
        Self { reference, ..self }
    }

    pub const fn arn(self, arn: &'static str) -> Self {
        Self { arn, ..self }
    }

    pub const fn attributes(self, attributes: &'static [(&'static str, &'static str)]) -> Self {
        Self { attributes, ..self }
    }
}

/// Periodic work of a service.
#[derive(Debug, Clone, Copy)]
pub struct Chore {
    /// What it deletes, for the log.
    pub of: &'static str,
    pub every: Duration,
    /// The largest amount of work before others may write.
    pub portion: usize,
    /// Whether it deletes data because of the time.
    pub deletes: bool,
    pub work: Work,
}

/// Does one portion at most, and returns how much it did.
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

/// What a service gets to open itself with.
#[derive(Debug)]
pub struct Opening<'a> {
    pub store: &'a Store,
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

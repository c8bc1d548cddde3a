//! CloudFormation, read only: the stacks that were deployed, their parameters, outputs,
//! resources, events and exports. It changes nothing; templates are deployed by `deploy`.

mod api;
pub mod deployed;
mod summary;

use std::sync::{Arc, PoisonError, RwLock};

use cloud_core::resource::Resource;
use cloud_core::service::{Deploy, Identity, Protocol, Service, Type};
use cloud_core::store::{Store, StoreError};
use cloud_core::{AwsError, Cloud};
use cloud_languages::template::{Application, Stack};
use serde_json::{Map, Value, json};

/// The service.
pub static SERVICE: Service = Service {
    protocols: &[Protocol::Query {
        version: "2010-05-15",
        namespace: "http://cloudformation.amazonaws.com/doc/2010-05-15/",
    }],
    open: |opening| {
        let state = State::open(opening.store)?;
        opening.keep(state);
        Ok(())
    },
    actions: api::ACTIONS,
    types: TYPES,
    ..Service::new("cloudformation")
};

/// The application that runs.
#[derive(Debug, Default)]
pub struct State {
    application: RwLock<Option<Arc<Application>>>,
}

impl State {
    /// Creates the service's table: when each stack was first deployed.
    ///
    /// # Errors
    /// When the store refuses.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        store.migrate(
            "CREATE TABLE IF NOT EXISTS cloudformation_stack (
                id TEXT PRIMARY KEY,
                created_ms INTEGER NOT NULL
            )",
        )?;
        store.migrate(deployed::TABLES)?;
        Ok(Self::default())
    }
}

/// Makes known what was deployed, so that it can be described.
///
/// # Errors
/// When the store refuses.
pub fn publish(cloud: &Cloud, application: Application) -> Result<(), StoreError> {
    let now = cloud.clock.now_ms();
    cloud.store.write(|transaction| {
        for stack in &application.stacks {
            transaction.execute(
                "INSERT OR IGNORE INTO cloudformation_stack (id, created_ms) VALUES (?1, ?2)",
                (&stack.id, now),
            )?;
        }
        Ok(())
    })?;
    let mut slot = cloud.state::<State>().application.write().unwrap_or_else(PoisonError::into_inner);
    *slot = Some(Arc::new(application));
    Ok(())
}

/// What was deployed, once it is published.
pub fn application(cloud: &Cloud) -> Option<Arc<Application>> {
    cloud.state::<State>().application.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn validation_error(message: impl Into<String>) -> AwsError {
    AwsError::client("ValidationError", message)
}

/// The members of a request.
struct Input(Map<String, Value>);

impl Input {
    fn read(input: Value, accepted: &[&str]) -> Result<Self, AwsError> {
        let members = match input {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        match members.keys().find(|key| !accepted.contains(&key.as_str())) {
            Some(key) => Err(validation_error(format!("{key} is not emulated by the local cloud."))),
            // Everything is answered in one page, so no token was ever given out.
            None if members.contains_key("NextToken") => Err(validation_error("Invalid NextToken")),
            None => Ok(Self(members)),
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    fn require(&self, key: &str) -> Result<&str, AwsError> {
        self.get(key).ok_or_else(|| {
            let member = key[..1].to_lowercase() + &key[1..];
            validation_error(format!(
                "1 validation error detected: Value null at '{member}' failed to satisfy constraint: Member must not be null"
            ))
        })
    }
}

/// One request's view of the stacks.
struct View<'a> {
    cloud: &'a Cloud,
    application: &'a Application,
}

impl View<'_> {
    fn stack(&self, name: &str) -> Result<&Stack, AwsError> {
        self.application
            .stack(name)
            .ok_or_else(|| validation_error(format!("Stack with id {name} does not exist")))
    }

    fn created(&self, stack: &Stack) -> Result<String, AwsError> {
        let created: i64 = self.cloud.store.read(|connection| {
            connection.query_row(
                "SELECT created_ms FROM cloudformation_stack WHERE id = ?1",
                [&stack.id],
                |row| row.get(0),
            )
        })?;
        let created = jiff::Timestamp::from_millisecond(created).map_err(AwsError::internal)?;
        Ok(created.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
    }

    fn describe_stacks(&self, input: &Input) -> Result<Value, AwsError> {
        let stacks: Vec<&Stack> = match input.get("StackName") {
            Some(name) => vec![self.stack(name)?],
            None => self.application.stacks.iter().collect(),
        };
        let stacks: Vec<Value> =
            stacks.into_iter().map(|stack| self.described(stack)).collect::<Result<_, _>>()?;
        Ok(json!({ "Stacks": stacks }))
    }

    fn described(&self, stack: &Stack) -> Result<Value, AwsError> {
        let parameters: Vec<Value> = stack
            .parameters
            .iter()
            .map(|(key, value)| json!({ "ParameterKey": key, "ParameterValue": value }))
            .collect();
        let outputs: Vec<Value> = stack
            .outputs
            .iter()
            .map(|output| {
                compact(json!({
                    "OutputKey": output.key,
                    "OutputValue": output.value,
                    "Description": output.description,
                    "ExportName": output.export,
                }))
            })
            .collect();
        Ok(compact(json!({
            "StackId": stack.id,
            "StackName": stack.name,
            "Description": stack.description,
            "Parameters": parameters,
            "CreationTime": self.created(stack)?,
            "StackStatus": STATUS,
            "Capabilities": summary::capabilities(self.application),
            "NotificationARNs": [],
            "RollbackConfiguration": {},
            "DriftInformation": { "StackDriftStatus": "NOT_CHECKED" },
            "DisableRollback": false,
            "EnableTerminationProtection": false,
            "Outputs": outputs,
            "Tags": self.tags(stack),
            "ParentId": stack.parent,
            "RootId": stack.root,
        })))
    }

    /// A nested stack has the tags of the resource that nests it; a local root has none.
    fn tags(&self, stack: &Stack) -> Value {
        let resources = self.application.stacks.iter().flat_map(|stack| &stack.resources);
        let nesting = resources.into_iter().find(|resource| resource.physical_id == stack.id);
        nesting.and_then(|resource| resource.properties.get("Tags").cloned()).unwrap_or_else(|| json!([]))
    }

    fn describe_stack_resources(&self, input: &Input) -> Result<Value, AwsError> {
        let stack = match (input.get("StackName"), input.get("PhysicalResourceId")) {
            (Some(_), Some(_)) => {
                return Err(validation_error("StackName and PhysicalResourceId are mutually exclusive"));
            }
            (Some(name), None) => self.stack(name)?,
            (None, Some(id)) => self
                .application
                .stacks
                .iter()
                .find(|stack| stack.resources.iter().any(|resource| resource.physical_id == id))
                .ok_or_else(|| validation_error(format!("Stack for {id} does not exist")))?,
            (None, None) => {
                return Err(validation_error("Either StackName or PhysicalResourceId must be specified"));
            }
        };
        let logical_id = input.get("LogicalResourceId");
        let wanted = |resource: &&Resource| logical_id.is_none_or(|id| resource.logical_id == id);
        let resources: Vec<Value> = stack
            .resources
            .iter()
            .filter(wanted)
            .map(|resource| self.resource(stack, resource, "Timestamp", true))
            .collect::<Result<_, _>>()?;
        Ok(json!({ "StackResources": resources }))
    }

    fn describe_stack_resource(&self, input: &Input) -> Result<Value, AwsError> {
        let name = input.require("StackName")?;
        let logical_id = input.require("LogicalResourceId")?;
        // This one action words it differently.
        let stack =
            self.stack(name).map_err(|_| validation_error(format!("Stack '{name}' does not exist")))?;
        let resource =
            stack.resources.iter().find(|resource| resource.logical_id == logical_id).ok_or_else(|| {
                validation_error(format!("Resource {logical_id} does not exist for stack {}", stack.name))
            })?;
        let mut detail = self.resource(stack, resource, "LastUpdatedTimestamp", true)?;
        // The API gives the metadata as JSON text.
        detail["Metadata"] =
            json!(if resource.metadata.is_null() { "{}".into() } else { resource.metadata.to_string() });
        Ok(json!({ "StackResourceDetail": detail }))
    }

    fn list_stack_resources(&self, input: &Input) -> Result<Value, AwsError> {
        let stack = self.stack(input.require("StackName")?)?;
        let summaries: Vec<Value> = stack
            .resources
            .iter()
            .map(|resource| self.resource(stack, resource, "LastUpdatedTimestamp", false))
            .collect::<Result<_, _>>()?;
        Ok(json!({ "StackResourceSummaries": summaries }))
    }

    fn resource(
        &self,
        stack: &Stack,
        resource: &Resource,
        time: &str,
        with_stack: bool,
    ) -> Result<Value, AwsError> {
        let mut shown = json!({
            "LogicalResourceId": resource.logical_id,
            "PhysicalResourceId": resource.physical_id,
            "ResourceType": resource.kind,
            "ResourceStatus": STATUS,
            "DriftInformation": { "StackResourceDriftStatus": "NOT_CHECKED" },
        });
        shown[time] = json!(self.created(stack)?);
        if with_stack {
            shown["StackName"] = json!(stack.name);
            shown["StackId"] = json!(stack.id);
        }
        Ok(shown)
    }

    /// What happened to a stack, the newest first. Here all of it happens at once, each
    /// resource after those that it depends on.
    fn describe_stack_events(&self, input: &Input) -> Result<Value, AwsError> {
        let name = input.require("StackName")?;
        // This action words it differently, too.
        let stack =
            self.stack(name).map_err(|_| validation_error(format!("Stack [{name}] does not exist")))?;
        let created = self.created(stack)?;
        let event = |resource: Option<&Resource>, status: &str| {
            let logical_id = resource.map_or(&stack.name, |resource| &resource.logical_id);
            let event_id = match resource {
                Some(_) => format!("{logical_id}-{status}-{created}"),
                None => cloud_core::random::stable_uuid(&format!("{} {status} {created}", stack.id)),
            };
            let started_here = resource.is_none() && status == "CREATE_IN_PROGRESS";
            compact(json!({
                "StackId": stack.id,
                "EventId": event_id,
                "StackName": stack.name,
                "LogicalResourceId": logical_id,
                "PhysicalResourceId": resource.map_or(&stack.id, |resource| &resource.physical_id),
                "ResourceType": resource.map_or("AWS::CloudFormation::Stack", |resource| &resource.kind),
                "Timestamp": created,
                "ResourceStatus": status,
                "ResourceStatusReason": started_here.then_some("User Initiated"),
                "ResourceProperties": resource.map(|resource| resource.properties.to_string()),
            }))
        };
        let mut events = vec![event(None, "CREATE_IN_PROGRESS")];
        for resource in &stack.resources {
            events.push(event(Some(resource), "CREATE_IN_PROGRESS"));
            events.push(event(Some(resource), STATUS));
        }
        events.push(event(None, STATUS));
        events.reverse();
        Ok(json!({ "StackEvents": events }))
    }

    fn get_template(&self, input: &Input) -> Result<Value, AwsError> {
        if input.get("TemplateStage") == Some("Processed") {
            return Err(validation_error("TemplateStage Processed is not emulated by the local cloud."));
        }
        let stack = self.stack(input.require("StackName")?)?;
        Ok(json!({ "TemplateBody": stack.body, "StagesAvailable": ["Original"] }))
    }

    fn list_stacks(&self, input: &Input) -> Result<Value, AwsError> {
        let filter = input.0.get("StackStatusFilter").and_then(Value::as_array);
        let wanted =
            filter.is_none_or(|filter| filter.is_empty() || filter.iter().any(|status| status == STATUS));
        let stacks = self.application.stacks.iter().filter(|_| wanted);
        let summaries: Vec<Value> = stacks
            .map(|stack| {
                Ok(compact(json!({
                    "StackId": stack.id,
                    "StackName": stack.name,
                    "TemplateDescription": stack.description,
                    "CreationTime": self.created(stack)?,
                    "StackStatus": STATUS,
                    "ParentId": stack.parent,
                    "RootId": stack.root,
                    "DriftInformation": { "StackDriftStatus": "NOT_CHECKED" },
                })))
            })
            .collect::<Result<_, AwsError>>()?;
        Ok(json!({ "StackSummaries": summaries }))
    }

    fn list_exports(&self) -> Value {
        let exports: Vec<Value> = self
            .application
            .stacks
            .iter()
            .flat_map(|stack| stack.outputs.iter().map(move |output| (stack, output)))
            .filter_map(|(stack, output)| {
                let name = output.export.as_ref()?;
                Some(json!({ "ExportingStackId": stack.id, "Name": name, "Value": output.value }))
            })
            .collect();
        json!({ "Exports": exports })
    }
}

/// A stack that did not come up is not there at all.
const STATUS: &str = "CREATE_COMPLETE";

/// Drops the members that are null.
fn compact(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.retain(|_, member| !member.is_null());
    }
    value
}

/// The resources of a nested stack are deployed in its place.
const TYPES: &[Type] = &[Type::new(
    "AWS::CloudFormation::Stack",
    "a nested template of the same project",
    Identity::NAME.reference("arn:aws:cloudformation:{region}:{account}:stack/{name}/{stack_uuid}"),
    Deploy::Now(|_, _| Ok(())),
)];

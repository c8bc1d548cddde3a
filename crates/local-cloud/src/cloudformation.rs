//! CloudFormation, read only: the stacks that were deployed, their parameters, outputs,
//! resources and exports. It changes nothing; templates are deployed by `deploy`.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Map, Value, json};

use crate::cloud::Cloud;
use crate::error::AwsError;
use crate::resource::Resource;
use crate::store::{Store, StoreError};
use crate::template::{Application, Stack};

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
    let mut slot = cloud.cloudformation.application.write().unwrap_or_else(PoisonError::into_inner);
    *slot = Some(Arc::new(application));
    Ok(())
}

/// What was deployed, once it is published.
pub fn application(cloud: &Cloud) -> Option<Arc<Application>> {
    cloud.cloudformation.application.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Answers one API action; `input` and the answer have the members of AWS's API reference.
///
/// # Errors
/// AWS's own error codes.
pub async fn call(cloud: &Arc<Cloud>, action: &str, input: Value) -> Result<Value, AwsError> {
    let application = application(cloud).unwrap_or_else(|| Arc::new(Application { stacks: Vec::new() }));
    let view = View { cloud, application: &application };
    let accepted: &[&str] = match action {
        "DescribeStacks" | "ListStackResources" => &["StackName", "NextToken"],
        "DescribeStackResources" => &["StackName", "LogicalResourceId", "PhysicalResourceId"],
        "DescribeStackResource" => &["StackName", "LogicalResourceId"],
        // Whether the template is wanted as written or with its macros: as written is all there is.
        "GetTemplate" => &["StackName", "TemplateStage"],
        "ListStacks" => &["NextToken", "StackStatusFilter"],
        "ListExports" => &["NextToken"],
        _ => return Err(AwsError::not_emulated("cloudformation", action)),
    };
    let input = Input::read(input, accepted)?;
    match action {
        "DescribeStacks" => view.describe_stacks(&input),
        "DescribeStackResources" => view.describe_stack_resources(&input),
        "DescribeStackResource" => view.describe_stack_resource(&input),
        "ListStackResources" => view.list_stack_resources(&input),
        "GetTemplate" => view.get_template(&input),
        "ListStacks" => view.list_stacks(&input),
        _ => Ok(view.list_exports()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::cloud::Settings;
    use crate::random::Random;

    const ROOT: &str = "
Description: the whole
Transform: AWS::Serverless-2016-10-31
Parameters: {Stage: {Type: String, Default: local}}
Resources:
  Role: {Type: AWS::IAM::Role, Metadata: {Why: because}, Properties: {RoleName: r, AssumeRolePolicyDocument: {}}}
  Child: {Type: AWS::Serverless::Application, Properties: {Location: child.yaml, Tags: {Owner: me}}}
Outputs:
  RoleName: {Value: !Ref Role, Description: its name, Export: {Name: role-name}}
";
    const CHILD: &str = "Resources: {Alarm: {Type: AWS::CloudWatch::Alarm, Properties: {AlarmName: a}}}";

    /// A cloud on which the two stacks are deployed, one second after the epoch.
    async fn deployed() -> (Arc<Cloud>, Application) {
        let project = tempfile::tempdir().unwrap();
        std::fs::write(project.path().join("template.yaml"), ROOT).unwrap();
        std::fs::write(project.path().join("child.yaml"), CHILD).unwrap();
        let cloud = Cloud::open(Settings::for_tests(), Clock::manual(1_000), Random::seeded(1)).unwrap();
        let application = crate::template::load(
            project.path(),
            "template.yaml",
            "app",
            &Default::default(),
            &cloud.settings,
            "http://127.0.0.1:3000",
            "http://127.0.0.1:4566",
        )
        .unwrap();
        crate::deploy::deploy(&cloud, &application).await.unwrap();
        publish(&cloud, application.clone()).unwrap();
        (cloud, application)
    }

    async fn answer(cloud: &Arc<Cloud>, action: &str, input: Value) -> Value {
        call(cloud, action, input).await.unwrap()
    }

    #[tokio::test]
    async fn describe_stacks_shows_parameters_outputs_and_tags() {
        let (cloud, application) = deployed().await;
        let id = &application.stacks[0].id;
        for name in ["app", id] {
            assert_eq!(
                answer(&cloud, "DescribeStacks", json!({ "StackName": name })).await,
                json!({ "Stacks": [{
                    "StackId": id,
                    "StackName": "app",
                    "Description": "the whole",
                    "Parameters": [{ "ParameterKey": "Stage", "ParameterValue": "local" }],
                    "CreationTime": "1970-01-01T00:00:01.000Z",
                    "StackStatus": "CREATE_COMPLETE",
                    "DisableRollback": false,
                    "EnableTerminationProtection": false,
                    "Outputs": [{
                        "OutputKey": "RoleName",
                        "OutputValue": "r",
                        "Description": "its name",
                        "ExportName": "role-name",
                    }],
                    "Tags": [],
                }] })
            );
        }
        let all = answer(&cloud, "DescribeStacks", json!({})).await;
        let child = &all["Stacks"][1];
        assert_eq!((&child["ParentId"], &child["RootId"]), (&json!(id), &json!(id)));
        assert_eq!(child["Tags"][1], json!({ "Key": "Owner", "Value": "me" }));
    }

    #[tokio::test]
    async fn an_unknown_stack_is_a_validation_error_in_the_words_of_aws() {
        let (cloud, _) = deployed().await;
        for action in ["DescribeStacks", "DescribeStackResources", "ListStackResources", "GetTemplate"] {
            let error = call(&cloud, action, json!({ "StackName": "x" })).await.unwrap_err();
            assert_eq!((error.code.as_str(), error.status), ("ValidationError", 400));
            assert_eq!(error.message, "Stack with id x does not exist");
        }
    }

    #[tokio::test]
    async fn the_resources_of_a_stack_are_listed_and_described() {
        let (cloud, application) = deployed().await;
        let resources = answer(&cloud, "DescribeStackResources", json!({ "StackName": "app" })).await;
        let ids: Vec<_> =
            resources["StackResources"].as_array().unwrap().iter().map(|r| &r["LogicalResourceId"]).collect();
        assert_eq!(ids, ["Child", "Role"]);
        assert_eq!(resources["StackResources"][0]["PhysicalResourceId"], json!(application.stacks[1].id));
        let owner = answer(&cloud, "DescribeStackResources", json!({ "PhysicalResourceId": "a" })).await;
        assert_eq!(owner["StackResources"][0]["StackId"], json!(application.stacks[1].id));
        let one = json!({ "StackName": "app", "LogicalResourceId": "Role" });
        let detail = answer(&cloud, "DescribeStackResource", one).await;
        assert_eq!(detail["StackResourceDetail"]["PhysicalResourceId"], "r");
        assert_eq!(detail["StackResourceDetail"]["Metadata"], r#"{"Why":"because"}"#);
        let missing = json!({ "StackName": "app", "LogicalResourceId": "Nobody" });
        let error = call(&cloud, "DescribeStackResource", missing).await.unwrap_err();
        assert_eq!(error.message, "Resource Nobody does not exist for stack app");
        let listed = answer(&cloud, "ListStackResources", json!({ "StackName": "app" })).await;
        assert_eq!(listed["StackResourceSummaries"][1]["ResourceType"], "AWS::IAM::Role");
    }

    #[tokio::test]
    async fn templates_exports_and_stacks_are_listed() {
        let (cloud, application) = deployed().await;
        assert_eq!(answer(&cloud, "GetTemplate", json!({ "StackName": "app" })).await["TemplateBody"], ROOT);
        assert_eq!(
            answer(&cloud, "ListExports", json!({})).await,
            json!({ "Exports": [{ "ExportingStackId": application.stacks[0].id, "Name": "role-name", "Value": "r" }] })
        );
        let all = answer(&cloud, "ListStacks", json!({})).await;
        assert_eq!(all["StackSummaries"].as_array().map(Vec::len), Some(2));
        let none = answer(&cloud, "ListStacks", json!({ "StackStatusFilter": ["DELETE_COMPLETE"] })).await;
        assert_eq!(none, json!({ "StackSummaries": [] }));
    }

    #[tokio::test]
    async fn a_member_that_is_not_emulated_and_a_missing_one_are_refused() {
        let (cloud, _) = deployed().await;
        let error = call(&cloud, "ListStacks", json!({ "Colour": 1 })).await.unwrap_err();
        assert!(error.message.contains("Colour"), "{error}");
        let error = call(&cloud, "ListStackResources", json!({})).await.unwrap_err();
        assert!(error.message.contains("'stackName' failed to satisfy constraint"), "{error}");
        assert_eq!(call(&cloud, "CreateStack", json!({})).await.unwrap_err().code, "NotImplemented");
    }

    #[tokio::test]
    async fn a_stack_keeps_its_creation_time_over_a_restart() {
        let (cloud, application) = deployed().await;
        cloud.clock.advance(std::time::Duration::from_secs(60));
        publish(&cloud, application).unwrap();
        let described = answer(&cloud, "DescribeStacks", json!({ "StackName": "app" })).await;
        assert_eq!(described["Stacks"][0]["CreationTime"], "1970-01-01T00:00:01.000Z");
    }
}

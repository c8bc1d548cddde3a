//! The API actions of CloudFormation.

use std::sync::Arc;

use cloud_core::service::Action;
use cloud_core::{AwsError, Cloud};
use cloud_languages::template::Application;
use serde_json::Value;

use super::{Input, View, application, summary};

/// An action, with the members of its input that are emulated.
macro_rules! action {
    ($name:literal, $accepted:expr, $answer:expr) => {
        Action::new($name, |cloud, input| answer(cloud, Input::read(input, &$accepted)?, $answer))
    };
}

/// The actions, with the members of AWS's API reference.
pub(super) const ACTIONS: &[Action] = &[
    action!("DescribeStackEvents", ["StackName", "NextToken"], |view, input| view
        .describe_stack_events(input)),
    action!("DescribeStackResource", ["StackName", "LogicalResourceId"], |view, input| view
        .describe_stack_resource(input)),
    action!(
        "DescribeStackResources",
        ["StackName", "LogicalResourceId", "PhysicalResourceId"],
        |view, input| view.describe_stack_resources(input)
    ),
    action!("DescribeStacks", ["StackName", "NextToken"], |view, input| view.describe_stacks(input)),
    // Whether the template is wanted as written or with its macros: as written is all there is.
    action!("GetTemplate", ["StackName", "TemplateStage"], |view, input| view.get_template(input)),
    action!("GetTemplateSummary", ["StackName"], |view, input| {
        summary::summary(view.stack(input.require("StackName")?)?)
    }),
    action!("ListExports", ["NextToken"], |view, _| Ok(view.list_exports())),
    action!("ListStackResources", ["StackName", "NextToken"], |view, input| view.list_stack_resources(input)),
    action!("ListStacks", ["NextToken", "StackStatusFilter"], |view, input| view.list_stacks(input)),
];

fn answer(
    cloud: &Arc<Cloud>,
    input: Input,
    action: fn(&View<'_>, &Input) -> Result<Value, AwsError>,
) -> Result<Value, AwsError> {
    let application = application(cloud).unwrap_or_else(|| Arc::new(Application { stacks: Vec::new() }));
    action(&View { cloud, application: &application }, &input)
}

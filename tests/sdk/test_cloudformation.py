"""CloudFormation: what an operator reads of the deployed stacks."""

import re

import pytest
from botocore.exceptions import ClientError, WaiterError

from conftest import STACK

OUTPUTS = """
    ContractsApiUrl ContractsTableName ContractsEventBusName ContractsCatchAllLogGroupArn
    ContractsIngestQueueUrl ContractsIngestDLQUrl WebApiUrl ListingsTableName WebEventBusName
    WebCatchAllLogGroupArn WebIngestQueueUrl WebIngestDLQUrl ContractStatusTableName
    ApprovalStateMachineArn PropertiesEventBusName PropertiesCatchAllLogGroupArn ImagesBucketName
""".split()


@pytest.fixture(scope="module")
def cloudformation(client):
    return client("cloudformation")


def test_the_stack_is_complete_and_has_all_outputs(cloudformation):
    [stack] = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    assert stack["StackName"] == STACK
    assert stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    assert stack["StackId"].startswith(f"arn:aws:cloudformation:us-east-1:{stack['StackId'].split(':')[4]}:stack/{STACK}/")
    assert stack["CreationTime"].tzinfo is not None
    given = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    assert set(OUTPUTS) <= set(given)
    assert all(given.values())


def test_a_stack_is_found_by_its_id_too(cloudformation):
    [stack] = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    [again] = cloudformation.describe_stacks(StackName=stack["StackId"])["Stacks"]
    assert again["StackId"] == stack["StackId"]


def test_the_parameters_name_the_stage(cloudformation):
    [stack] = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}
    assert parameters["Stage"] == "local"


def test_an_unknown_stack_is_a_validation_error(cloudformation):
    with pytest.raises(ClientError) as error:
        cloudformation.describe_stacks(StackName="nobodys-stack")
    assert error.value.response["Error"]["Code"] == "ValidationError"
    assert error.value.response["Error"]["Message"] == "Stack with id nobodys-stack does not exist"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_unknown_stack_has_no_resources(cloudformation):
    for call in (cloudformation.describe_stack_resources, cloudformation.list_stack_resources):
        with pytest.raises(ClientError) as error:
            call(StackName="nobodys-stack")
        assert error.value.response["Error"]["Code"] == "ValidationError"


def test_the_waiters_know_a_complete_stack_and_an_unknown_one(cloudformation):
    cloudformation.get_waiter("stack_exists").wait(StackName=STACK)
    cloudformation.get_waiter("stack_create_complete").wait(StackName=STACK, WaiterConfig={"MaxAttempts": 1})
    cloudformation.get_waiter("stack_delete_complete").wait(StackName="nobodys-stack", WaiterConfig={"MaxAttempts": 1})
    with pytest.raises(WaiterError):
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName="nobodys-stack", WaiterConfig={"MaxAttempts": 1, "Delay": 1}
        )


def test_the_nested_stacks_point_at_their_root(cloudformation):
    pages = cloudformation.get_paginator("describe_stacks").paginate()
    stacks = {stack["StackId"]: stack for page in pages for stack in page["Stacks"]}
    [root] = [stack for stack in stacks.values() if stack["StackName"] == STACK]
    assert "ParentId" not in root
    nested = [
        resource
        for resource in cloudformation.describe_stack_resources(StackName=STACK)["StackResources"]
        if resource["ResourceType"] == "AWS::CloudFormation::Stack"
    ]
    assert len(nested) >= 3
    for resource in nested:
        stack = stacks[resource["PhysicalResourceId"]]
        assert stack["ParentId"] == root["StackId"]
        assert stack["RootId"] == root["StackId"]
        assert stack["StackStatus"] == root["StackStatus"]


def test_resources_are_listed_and_described_one_by_one(cloudformation):
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=STACK)
    summaries = [summary for page in pages for summary in page["StackResourceSummaries"]]
    assert all(summary["ResourceStatus"] == "CREATE_COMPLETE" for summary in summaries)
    one = summaries[0]
    detail = cloudformation.describe_stack_resource(StackName=STACK, LogicalResourceId=one["LogicalResourceId"])
    assert detail["StackResourceDetail"]["PhysicalResourceId"] == one["PhysicalResourceId"]
    with pytest.raises(ClientError) as error:
        cloudformation.describe_stack_resource(StackName=STACK, LogicalResourceId="NotThere")
    assert error.value.response["Error"]["Code"] == "ValidationError"
    assert "does not exist for stack" in error.value.response["Error"]["Message"]


def test_list_stacks_filters_by_status(cloudformation):
    status = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"]
    summaries = cloudformation.list_stacks(StackStatusFilter=[status])["StackSummaries"]
    assert STACK in [summary["StackName"] for summary in summaries]
    assert cloudformation.list_stacks(StackStatusFilter=["DELETE_COMPLETE"])["StackSummaries"] == []


def test_the_events_of_a_stack_end_with_its_completion(cloudformation):
    pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=STACK)
    events = [event for page in pages for event in page["StackEvents"]]
    assert (events[0]["LogicalResourceId"], events[0]["ResourceStatus"]) == (STACK, "CREATE_COMPLETE")
    assert events[-1]["ResourceStatusReason"] == "User Initiated"
    assert len({event["EventId"] for event in events}) == len(events)
    assert {"AWS::CloudFormation::Stack", "AWS::S3::Bucket"} <= {event["ResourceType"] for event in events}
    with pytest.raises(ClientError) as error:
        cloudformation.describe_stack_events(StackName="nobodys-stack")
    assert error.value.response["Error"]["Code"] == "ValidationError"
    assert "does not exist" in error.value.response["Error"]["Message"]


def test_the_summary_of_the_template_tells_what_it_needs(cloudformation):
    summary = cloudformation.get_template_summary(StackName=STACK)
    assert "Stage" in [parameter["ParameterKey"] for parameter in summary["Parameters"]]
    assert "AWS::Serverless::Application" in summary["ResourceTypes"]
    [stack] = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
    assert "CAPABILITY_AUTO_EXPAND" in stack["Capabilities"]


def test_the_template_can_be_read(cloudformation):
    template = cloudformation.get_template(StackName=STACK)["TemplateBody"]
    assert "Resources" in template


def test_the_shapes_of_the_outputs(outputs):
    assert re.fullmatch(r"arn:aws:states:us-east-1:\d{12}:stateMachine:.+", outputs["ApprovalStateMachineArn"])
    for key in ("ContractsCatchAllLogGroupArn", "WebCatchAllLogGroupArn", "PropertiesCatchAllLogGroupArn"):
        assert re.fullmatch(r"arn:aws:logs:us-east-1:\d{12}:log-group:/aws/events/.+-catchall(:\*)?", outputs[key])
    for key in ("ContractsIngestQueueUrl", "ContractsIngestDLQUrl", "WebIngestQueueUrl", "WebIngestDLQUrl"):
        assert re.fullmatch(r"https?://.+/\d{12}/[\w-]+", outputs[key])
    for key in ("ContractsApiUrl", "WebApiUrl"):
        assert re.match(r"https?://", outputs[key])


def test_what_is_not_emulated_is_said_so_in_the_protocol_of_the_service(cloudformation):
    with pytest.raises(ClientError) as error:
        cloudformation.describe_type(Type="RESOURCE", TypeName="AWS::S3::Bucket")
    assert "emulated" in str(error.value)

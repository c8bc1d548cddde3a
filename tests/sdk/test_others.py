"""The smaller services: SSM, Pipes, Schemas, STS, Comprehend, Rekognition; and what is not emulated."""

import json

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from conftest import STACK, until


def code(error):
    return error.value.response["Error"]["Code"]


def test_parameters_are_put_read_listed_and_deleted(client, name):
    ssm = client("ssm")
    path = f"/sdk/{name}"
    assert ssm.put_parameter(Name=f"{path}/a", Value="1", Type="String")["Version"] == 1
    with pytest.raises(ssm.exceptions.ParameterAlreadyExists):
        ssm.put_parameter(Name=f"{path}/a", Value="2", Type="String")
    assert ssm.put_parameter(Name=f"{path}/a", Value="2", Type="String", Overwrite=True)["Version"] == 2
    ssm.put_parameter(Name=f"{path}/b", Value="x,y", Type="StringList")
    one = ssm.get_parameter(Name=f"{path}/a")["Parameter"]
    assert (one["Value"], one["Version"], one["Type"]) == ("2", 2, "String")
    assert one["ARN"].endswith(f":parameter{path}/a")
    first = ssm.get_parameter(Name=f"{path}/a:1")["Parameter"]
    assert (first["Name"], first["Value"], first["Selector"]) == (f"{path}/a", "1", ":1")
    with pytest.raises(ssm.exceptions.ParameterVersionNotFound):
        ssm.get_parameter(Name=f"{path}/a:3")
    several = ssm.get_parameters(Names=[f"{path}/a", f"{path}/b", f"{path}/none"])
    assert [p["Value"] for p in several["Parameters"]] == ["2", "x,y"]
    assert several["InvalidParameters"] == [f"{path}/none"]
    pages = list(ssm.get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=True, PaginationConfig={"PageSize": 1}))
    assert [p["Name"] for page in pages for p in page["Parameters"]] == [f"{path}/a", f"{path}/b"]
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name=f"{path}/none")
    for letter in "ab":
        ssm.delete_parameter(Name=f"{path}/{letter}")
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.delete_parameter(Name=f"{path}/a")


def test_parameters_are_deleted_together(client, name):
    ssm = client("ssm")
    names = [f"/sdk/{name}/{letter}" for letter in "ab"]
    for parameter in names:
        ssm.put_parameter(Name=parameter, Value="1", Type="String")
    answer = ssm.delete_parameters(Names=[*names, f"/sdk/{name}/none"])
    assert sorted(answer["DeletedParameters"]) == names
    assert answer["InvalidParameters"] == [f"/sdk/{name}/none"]
    assert ssm.get_parameters(Names=names)["InvalidParameters"] == names
    with pytest.raises(ClientError) as error:
        ssm.delete_parameters(Names=[f"/sdk/{name}/{number}" for number in range(11)])
    assert code(error) == "ValidationException"


def test_the_pipe_from_the_contracts_table_runs(client, outputs):
    pipes = client("pipes")
    listed = [p for page in pipes.get_paginator("list_pipes").paginate() for p in page["Pipes"]]
    [pipe] = [p for p in listed if f"table/{outputs['ContractsTableName']}/stream/" in p["Source"]]
    described = pipes.describe_pipe(Name=pipe["Name"])
    assert described["CurrentState"] == "RUNNING"
    assert described["Target"].endswith(f":event-bus/{outputs['ContractsEventBusName']}")
    assert described["TargetParameters"]["EventBridgeEventBusParameters"]["DetailType"] == "ContractStatusChanged"
    assert described["SourceParameters"]["DynamoDBStreamParameters"]["DeadLetterConfig"]["Arn"].startswith("arn:aws:sqs:")
    with pytest.raises(ClientError) as error:
        pipes.describe_pipe(Name="nobodys")
    assert code(error) == "NotFoundException"
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_the_schemas_of_the_events_can_be_read(client):
    schemas = client("schemas")
    found = {}
    for registry in schemas.list_registries()["Registries"]:
        for page in schemas.get_paginator("list_schemas").paginate(RegistryName=registry["RegistryName"]):
            found |= {schema["SchemaName"]: registry["RegistryName"] for schema in page["Schemas"]}
    for name in ("unicorn-contracts@ContractStatusChanged", "unicorn-web@PublicationApprovalRequested", "unicorn-properties@PublicationEvaluationCompleted"):
        schema = schemas.describe_schema(RegistryName=found[name], SchemaName=name)
        assert schema["Type"] == "OpenApi3"
        assert json.loads(schema["Content"])["openapi"].startswith("3.0")
        assert schema["SchemaVersion"] == "1"
    with pytest.raises(ClientError) as error:
        schemas.describe_schema(RegistryName=found[name], SchemaName="nobodys")
    assert code(error) == "NotFoundException"


def test_the_caller_is_of_the_account_of_the_stack(client):
    account = client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["StackId"].split(":")[4]
    caller = client("sts").get_caller_identity()
    assert caller["Account"] == account
    assert caller["Arn"].startswith("arn:aws:")


@pytest.mark.parametrize("config", [{"region_name": "ap-southeast-2"}, {"signature_version": UNSIGNED}], ids=str)
def test_requests_of_any_region_and_signature_are_answered_with_what_is_here(outputs, config):
    of = lambda service: boto3.client(service, config=Config(**config))
    assert outputs["ContractsTableName"] in of("dynamodb").list_tables()["TableNames"]
    assert of("sqs").get_queue_attributes(QueueUrl=outputs["ContractsIngestQueueUrl"], AttributeNames=["QueueArn"])["Attributes"]
    assert of("events").describe_event_bus(Name=outputs["WebEventBusName"])["Arn"]
    assert of("stepfunctions").list_executions(stateMachineArn=outputs["ApprovalStateMachineArn"], maxResults=1)
    assert of("logs").describe_log_groups(limit=1)["logGroups"]
    assert of("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    assert of("lambda").list_functions(MaxItems=1)["Functions"]
    assert of("pipes").list_pipes()["Pipes"]
    assert of("schemas").list_registries()["Registries"]
    assert of("ssm").describe_parameters()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert "Contents" in of("s3").list_objects_v2(Bucket=outputs["ImagesBucketName"], MaxKeys=1)
    assert of("sts").get_caller_identity()["Account"]


def test_a_pipe_is_stopped_and_started(client, outputs):
    pipes = client("pipes")
    [pipe] = pipes.list_pipes(SourcePrefix=f"arn:aws:dynamodb:us-east-1:{pipes.list_pipes()['Pipes'][0]['Arn'].split(':')[4]}:table/{outputs['ContractsTableName']}/")["Pipes"]
    state = lambda: pipes.describe_pipe(Name=pipe["Name"])["CurrentState"]
    assert pipes.stop_pipe(Name=pipe["Name"])["DesiredState"] == "STOPPED"
    until("the pipe's end", lambda: state() == "STOPPED")
    assert pipes.start_pipe(Name=pipe["Name"])["DesiredState"] == "RUNNING"
    until("the pipe's start", lambda: state() == "RUNNING")
    assert "Project" in pipes.list_tags_for_resource(resourceArn=pipe["Arn"])["tags"]
    with pytest.raises(pipes.exceptions.NotFoundException):
        pipes.start_pipe(Name="nobodys")


def test_registries_of_schemas_are_read(client):
    schemas = client("schemas")
    [name] = [registry["RegistryName"] for page in schemas.get_paginator("list_registries").paginate(PaginationConfig={"PageSize": 1}) for registry in page["Registries"] if "contracts" in registry["RegistryName"]]
    registry = schemas.describe_registry(RegistryName=name)
    assert registry["RegistryArn"].endswith(f":registry/{name}")
    assert "Project" in registry["Tags"]
    schema = schemas.list_schemas(RegistryName=name)["Schemas"][0]["SchemaName"]
    for call in (
        lambda: schemas.describe_registry(RegistryName="nobodys"),
        lambda: schemas.describe_schema(RegistryName=name, SchemaName=schema, SchemaVersion="999"),
    ):
        with pytest.raises(schemas.exceptions.NotFoundException):
            call()


def test_sentiment_is_told_with_scores(client):
    comprehend = client("comprehend")
    for text, sentiment in (
        ("A lovely, bright family home with a wonderful garden.", "POSITIVE"),
        ("A terrible, ugly and dirty ruin; the worst house in town.", "NEGATIVE"),
    ):
        answer = comprehend.detect_sentiment(Text=text, LanguageCode="en")
        assert answer["Sentiment"] == sentiment
        assert set(answer["SentimentScore"]) == {"Positive", "Negative", "Neutral", "Mixed"}
        assert abs(sum(answer["SentimentScore"].values()) - 1) < 0.01
    with pytest.raises(ClientError) as error:
        comprehend.detect_sentiment(Text="x" * 5001, LanguageCode="en")
    assert code(error) == "TextSizeLimitExceededException"


def test_moderation_reads_the_object_in_the_bucket(client, outputs):
    rekognition, bucket = client("rekognition"), outputs["ImagesBucketName"]
    keys = [item["Key"] for item in client("s3").list_objects_v2(Bucket=bucket)["Contents"]]
    safe = next(key for key in keys if "main-street-111.png" in key)
    answer = rekognition.detect_moderation_labels(Image={"S3Object": {"Bucket": bucket, "Name": safe}})
    assert answer["ModerationLabels"] == []
    assert answer["ModerationModelVersion"]
    unsafe = next(key for key in keys if "unsafe" in key)
    labels = rekognition.detect_moderation_labels(Image={"S3Object": {"Bucket": bucket, "Name": unsafe}})["ModerationLabels"]
    assert labels and all(50 <= label["Confidence"] <= 100 for label in labels)
    with pytest.raises(rekognition.exceptions.InvalidS3ObjectException):
        rekognition.detect_moderation_labels(Image={"S3Object": {"Bucket": bucket, "Name": "nobodys.png"}})


@pytest.mark.parametrize(
    "service, operation, arguments",
    [
        ("dynamodb", "create_backup", {"TableName": "t", "BackupName": "backup"}),
        ("dynamodb", "list_global_tables", {}),
        ("sqs", "add_permission", {"QueueUrl": "http://localhost/1/q", "Label": "l", "AWSAccountIds": ["1"], "Actions": ["*"]}),
        ("events", "list_partner_event_sources", {"NamePrefix": "x"}),
        ("events", "list_connections", {}),
        ("stepfunctions", "list_activities", {}),
        ("stepfunctions", "update_state_machine", {"stateMachineArn": "arn:aws:states:us-east-1:1:stateMachine:m"}),
        ("stepfunctions", "validate_state_machine_definition", {"definition": "{}"}),
        ("stepfunctions", "describe_state_machine_for_execution", {"executionArn": "arn:aws:states:us-east-1:1:execution:m:e"}),
        ("logs", "describe_metric_filters", {}),
        ("logs", "describe_query_definitions", {}),
        ("lambda", "list_layers", {}),
        ("lambda", "list_code_signing_configs", {}),
        ("lambda", "list_aliases", {"FunctionName": "f"}),
        ("lambda", "get_policy", {"FunctionName": "f"}),
        ("lambda", "get_function_concurrency", {"FunctionName": "f"}),
        ("lambda", "get_function_event_invoke_config", {"FunctionName": "f"}),
        ("cloudformation", "list_change_sets", {"StackName": STACK}),
        ("cloudformation", "list_types", {}),
        ("cloudformation", "list_exports", {}),
        ("ssm", "list_documents", {}),
        ("s3", "get_bucket_acl", {"Bucket": "nobodys"}),
        ("s3", "get_bucket_location", {"Bucket": "nobodys"}),
        ("s3", "list_buckets", {"Prefix": "images"}),
        ("pipes", "delete_pipe", {"Name": "p"}),
        ("schemas", "list_discoverers", {}),
        ("schemas", "list_schema_versions", {"RegistryName": "r", "SchemaName": "s"}),
        ("sts", "get_session_token", {}),
        ("comprehend", "detect_entities", {"Text": "x", "LanguageCode": "en"}),
        ("rekognition", "list_collections", {}),
        ("iam", "list_roles", {}),
        ("sns", "list_topics", {}),
        ("ec2", "describe_instances", {}),
        ("kinesis", "list_streams", {}),
        ("secretsmanager", "list_secrets", {}),
        ("apigateway", "get_rest_apis", {}),
        ("cloudwatch", "list_metrics", {}),
        ("xray", "get_groups", {}),
        ("kms", "list_keys", {}),
        ("ecs", "list_clusters", {}),
        ("scheduler", "list_schedules", {}),
        ("cognito-idp", "list_user_pools", {"MaxResults": 1}),
        ("appconfigdata", "start_configuration_session", {"ApplicationIdentifier": "a", "EnvironmentIdentifier": "e", "ConfigurationProfileIdentifier": "p"}),
    ],
)
def test_what_is_not_emulated_is_an_error_that_sdks_understand(service, operation, arguments):
    client = boto3.client(service, config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(ClientError) as error:
        getattr(client, operation)(**arguments)
    answer = error.value.response
    assert "emulated" in answer["Error"]["Message"], answer
    assert answer["Error"]["Code"] and not answer["Error"]["Code"].isdigit()
    assert answer["ResponseMetadata"]["HTTPStatusCode"] >= 400

// A round through the services with the JavaScript SDK v3, as a user of AWS would write it.
// Run with `node --test`; AWS_ENDPOINT_URL and the stack's outputs are all that it knows.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import {
  CloudFormationClient, DescribeStackResourcesCommand, DescribeStacksCommand, paginateDescribeStacks, paginateListStackResources,
  waitUntilStackCreateComplete,
} from "@aws-sdk/client-cloudformation";
import {
  CloudWatchLogsClient, CreateLogGroupCommand, CreateLogStreamCommand, DeleteLogGroupCommand, GetLogEventsCommand, PutLogEventsCommand,
  ResourceAlreadyExistsException, ResourceNotFoundException as LogsResourceNotFoundException, paginateDescribeLogGroups,
  paginateDescribeLogStreams, paginateFilterLogEvents,
} from "@aws-sdk/client-cloudwatch-logs";
import { ComprehendClient, DetectSentimentCommand, TextSizeLimitExceededException } from "@aws-sdk/client-comprehend";
import {
  ConditionalCheckFailedException, CreateTableCommand, DeleteTableCommand, DynamoDBClient, GetItemCommand,
  PutItemCommand, ResourceNotFoundException as TableNotFoundException, TransactWriteItemsCommand, TransactionCanceledException,
  paginateListTables, paginateScan, waitUntilTableExists, waitUntilTableNotExists,
} from "@aws-sdk/client-dynamodb";
import { DescribeStreamCommand, DynamoDBStreamsClient, GetRecordsCommand, GetShardIteratorCommand, ListStreamsCommand } from "@aws-sdk/client-dynamodb-streams";
import {
  DeleteRuleCommand, DescribeEventBusCommand, EventBridgeClient, InvalidEventPatternException, PutEventsCommand, PutRuleCommand,
  PutTargetsCommand, RemoveTargetsCommand, ResourceNotFoundException as EventsResourceNotFoundException, TestEventPatternCommand,
} from "@aws-sdk/client-eventbridge";
import {
  GetFunctionCommand, InvalidRequestContentException, InvokeCommand, LambdaClient, ResourceNotFoundException,
  paginateListEventSourceMappings, paginateListFunctions, waitUntilFunctionActiveV2,
} from "@aws-sdk/client-lambda";
import { DescribePipeCommand, NotFoundException as PipeNotFoundException, PipesClient, paginateListPipes } from "@aws-sdk/client-pipes";
import { DetectModerationLabelsCommand, InvalidS3ObjectException, RekognitionClient } from "@aws-sdk/client-rekognition";
import {
  DeleteObjectCommand, DeleteObjectsCommand, GetObjectCommand, HeadObjectCommand, NoSuchBucket, NoSuchKey, NotFound, PutObjectCommand,
  S3Client, paginateListObjectsV2, waitUntilBucketExists, waitUntilObjectExists, waitUntilObjectNotExists,
} from "@aws-sdk/client-s3";
import { DescribeSchemaCommand, NotFoundException as SchemaNotFoundException, SchemasClient, paginateListRegistries, paginateListSchemas } from "@aws-sdk/client-schemas";
import {
  DescribeExecutionCommand, DescribeStateMachineCommand, ExecutionAlreadyExists, ExecutionDoesNotExist, InvalidArn, InvalidToken, SFNClient,
  SendTaskSuccessCommand, StartExecutionCommand, StateMachineDoesNotExist, StopExecutionCommand, paginateGetExecutionHistory,
  paginateListExecutions, paginateListStateMachines,
} from "@aws-sdk/client-sfn";
import {
  BatchRequestTooLong, CreateQueueCommand, DeleteMessageCommand, DeleteQueueCommand, EmptyBatchRequest, GetQueueAttributesCommand,
  PurgeQueueCommand, PurgeQueueInProgress, QueueDoesNotExist, QueueNameExists, ReceiveMessageCommand, ReceiptHandleIsInvalid, SQSClient,
  SendMessageBatchCommand, SendMessageCommand, SetQueueAttributesCommand, paginateListQueues,
} from "@aws-sdk/client-sqs";
import {
  DeleteParameterCommand, GetParameterCommand, GetParametersCommand, ParameterAlreadyExists, ParameterNotFound, PutParameterCommand,
  SSMClient, paginateGetParametersByPath,
} from "@aws-sdk/client-ssm";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { DynamoDBDocumentClient, GetCommand, PutCommand, QueryCommand, UpdateCommand } from "@aws-sdk/lib-dynamodb";

assert.ok(process.env.AWS_ENDPOINT_URL, "AWS_ENDPOINT_URL is not set");
process.env.AWS_REGION ??= process.env.AWS_DEFAULT_REGION ?? "us-east-1";
process.env.AWS_ACCESS_KEY_ID ??= "any";
process.env.AWS_SECRET_ACCESS_KEY ??= "any";

const dynamodb = new DynamoDBClient({}), sqs = new SQSClient({}), events = new EventBridgeClient({});
const states = new SFNClient({}), s3 = new S3Client({}), lambda = new LambdaClient({}), logs = new CloudWatchLogsClient({});
const cloudformation = new CloudFormationClient({}), StackName = process.env.STACK_NAME ?? "uni-prop-local";
const name = `sdk-js-${randomUUID().slice(0, 12)}`;
let outputs;

async function all(pages, key) {
  const items = [];
  for await (const page of pages) items.push(...(page[key] ?? []));
  return items;
}

async function until(what, look) {
  for (const end = Date.now() + 30_000; Date.now() < end; await pause(50)) {
    const seen = await look();
    if (seen) return seen;
  }
  assert.fail(`${what} did not come`);
}

before(async () => {
  const { Stacks } = await cloudformation.send(new DescribeStacksCommand({ StackName }));
  outputs = Object.fromEntries(Stacks[0].Outputs.map((output) => [output.OutputKey, output.OutputValue]));
});

after(() => [dynamodb, sqs, events, states, s3, lambda, logs, cloudformation].forEach((client) => client.destroy()));

// What is wrong must be an error of its class, with its status, its message and the id of the request.
async function refused(call, kind, status = 400) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof kind, `${error.name}: ${error.message}`);
    assert.equal(error.$metadata.httpStatusCode, status);
    assert.ok(error.message && error.$metadata.requestId, error.message);
    return true;
  });
}

test("CloudFormation: stacks, resources, outputs, waiters", async () => {
  await waitUntilStackCreateComplete({ client: cloudformation, maxWaitTime: 60 }, { StackName });
  const stacks = await all(paginateDescribeStacks({ client: cloudformation }, {}), "Stacks");
  const root = stacks.find((stack) => stack.StackName === StackName);
  assert.ok(root.CreationTime instanceof Date);
  const resources = await all(paginateListStackResources({ client: cloudformation }, { StackName }), "StackResourceSummaries");
  for (const nested of resources.filter((resource) => resource.ResourceType === "AWS::CloudFormation::Stack")) {
    assert.equal(stacks.find((stack) => stack.StackId === nested.PhysicalResourceId).RootId, root.StackId);
  }
  const { StackResources } = await cloudformation.send(new DescribeStackResourcesCommand({ StackName, LogicalResourceId: "ImagesBucket" }));
  assert.equal(StackResources[0].PhysicalResourceId, outputs.ImagesBucketName);
  await assert.rejects(cloudformation.send(new DescribeStacksCommand({ StackName: "nobodys" })), { name: "ValidationError", message: "Stack with id nobodys does not exist" });
});

test("DynamoDB: a table of one's own, conditions, transactions, pages", async () => {
  assert.ok((await all(paginateListTables({ client: dynamodb, pageSize: 2 }, {}), "TableNames")).includes(outputs.ContractsTableName));
  await dynamodb.send(new CreateTableCommand({
    TableName: name, BillingMode: "PAY_PER_REQUEST",
    AttributeDefinitions: [{ AttributeName: "pk", AttributeType: "S" }], KeySchema: [{ AttributeName: "pk", KeyType: "HASH" }],
  }));
  await waitUntilTableExists({ client: dynamodb, maxWaitTime: 30, minDelay: 1, maxDelay: 2 }, { TableName: name });
  const put = { TableName: name, Item: { pk: { S: "a" }, n: { N: "1" } }, ConditionExpression: "attribute_not_exists(pk)" };
  await dynamodb.send(new PutItemCommand(put));
  await assert.rejects(dynamodb.send(new PutItemCommand(put)), ConditionalCheckFailedException);
  await assert.rejects(dynamodb.send(new TransactWriteItemsCommand({ TransactItems: [{ Put: put }] })), (error) => {
    assert.equal(error.name, "TransactionCanceledException");
    assert.equal(error.CancellationReasons[0].Code, "ConditionalCheckFailed");
    return true;
  });
  assert.equal((await dynamodb.send(new GetItemCommand({ TableName: name, Key: { pk: { S: "a" } } }))).Item.n.N, "1");
  assert.equal((await all(paginateScan({ client: dynamodb, pageSize: 1 }, { TableName: name }), "Items")).length, 1);
  await assert.rejects(dynamodb.send(new TransactWriteItemsCommand({ TransactItems: [{ Put: put }] })), TransactionCanceledException);
  await dynamodb.send(new DeleteTableCommand({ TableName: name }));
  await waitUntilTableNotExists({ client: dynamodb, maxWaitTime: 30, minDelay: 1, maxDelay: 2 }, { TableName: name });
  await refused(dynamodb.send(new GetItemCommand({ TableName: name, Key: { pk: { S: "a" } } })), TableNotFoundException);
});

test("DynamoDB: documents, queries, and the stream of their changes", async () => {
  const documents = DynamoDBDocumentClient.from(dynamodb), streams = new DynamoDBStreamsClient({}), TableName = `${name}-documents`;
  await dynamodb.send(new CreateTableCommand({
    TableName, BillingMode: "PAY_PER_REQUEST", StreamSpecification: { StreamEnabled: true, StreamViewType: "NEW_AND_OLD_IMAGES" },
    AttributeDefinitions: [{ AttributeName: "pk", AttributeType: "S" }, { AttributeName: "sk", AttributeType: "N" }],
    KeySchema: [{ AttributeName: "pk", KeyType: "HASH" }, { AttributeName: "sk", KeyType: "RANGE" }],
  }));
  await waitUntilTableExists({ client: dynamodb, maxWaitTime: 30, minDelay: 1, maxDelay: 2 }, { TableName });
  const Item = { pk: "a", sk: 1, text: "wörd 😀", list: [1, "x", null, true], map: { deep: { n: 1.5 } }, set: new Set(["x", "y"]), bytes: new Uint8Array([0, 255]) };
  await documents.send(new PutCommand({ TableName, Item }));
  assert.deepEqual((await documents.send(new GetCommand({ TableName, Key: { pk: "a", sk: 1 } }))).Item, Item);
  await documents.send(new UpdateCommand({ TableName, Key: { pk: "a", sk: 1 }, UpdateExpression: "ADD n :one", ExpressionAttributeValues: { ":one": 1 } }));
  const { Items } = await documents.send(new QueryCommand({ TableName, KeyConditionExpression: "pk = :pk", ExpressionAttributeValues: { ":pk": "a" } }));
  assert.equal(Items[0].n, 1);
  const { Streams: [{ StreamArn }] } = await streams.send(new ListStreamsCommand({ TableName }));
  const { StreamDescription: { Shards } } = await streams.send(new DescribeStreamCommand({ StreamArn }));
  const records = [];
  for (const { ShardId } of Shards) {
    const { ShardIterator } = await streams.send(new GetShardIteratorCommand({ StreamArn, ShardId, ShardIteratorType: "TRIM_HORIZON" }));
    records.push(...(await streams.send(new GetRecordsCommand({ ShardIterator }))).Records);
  }
  assert.deepEqual(records.map((record) => record.eventName), ["INSERT", "MODIFY"]);
  assert.ok(records[0].dynamodb.ApproximateCreationDateTime instanceof Date);
  await dynamodb.send(new DeleteTableCommand({ TableName }));
  streams.destroy();
});

test("SQS: messages, batches, the queues of the stack, errors", async () => {
  const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: name }));
  await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "a & b 😀", MessageAttributes: { A: { DataType: "String", StringValue: "x" } } }));
  const { Messages: [message] } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 5, MessageAttributeNames: ["All"] }));
  assert.equal(message.Body, "a & b 😀");
  assert.equal(message.MessageAttributes.A.StringValue, "x");
  await sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle: message.ReceiptHandle }));
  const batch = await sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries: [{ Id: "1", MessageBody: "x" }, { Id: "2", MessageBody: "\u0000" }] }));
  assert.deepEqual([batch.Successful.length, batch.Failed[0].Code], [1, "InvalidMessageContents"]);
  // The address of a stack's queue must be one that the SDK can send to.
  const { Attributes } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl: outputs.ContractsIngestQueueUrl, AttributeNames: ["QueueArn"] }));
  assert.match(Attributes.QueueArn, /^arn:aws:sqs:us-east-1:\d{12}:/);
  assert.ok((await all(paginateListQueues({ client: sqs, pageSize: 1 }, { QueueNamePrefix: name }), "QueueUrls")).includes(QueueUrl));
  await refused(sqs.send(new CreateQueueCommand({ QueueName: name, Attributes: { VisibilityTimeout: "7" } })), QueueNameExists);
  await refused(sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries: [] })), EmptyBatchRequest);
  const long = [1, 2].map((n) => ({ Id: `${n}`, MessageBody: "x".repeat(600_000) }));
  await refused(sqs.send(new SendMessageBatchCommand({ QueueUrl, Entries: long })), BatchRequestTooLong);
  await refused(sqs.send(new DeleteMessageCommand({ QueueUrl, ReceiptHandle: "nonsense" })), ReceiptHandleIsInvalid);
  await sqs.send(new PurgeQueueCommand({ QueueUrl }));
  await refused(sqs.send(new PurgeQueueCommand({ QueueUrl })), PurgeQueueInProgress, 403);
  await sqs.send(new DeleteQueueCommand({ QueueUrl }));
  await refused(sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "x" })), QueueDoesNotExist);
});

test("EventBridge: a rule brings events to a queue of one's own", async () => {
  const { QueueUrl } = await sqs.send(new CreateQueueCommand({ QueueName: `${name}-events` }));
  const { Attributes: { QueueArn } } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["QueueArn"] }));
  const EventBusName = outputs.WebEventBusName;
  const { RuleArn } = await events.send(new PutRuleCommand({ Name: name, EventBusName, EventPattern: JSON.stringify({ source: [name] }) }));
  const statement = {
    Effect: "Allow", Principal: { Service: "events.amazonaws.com" }, Action: "sqs:SendMessage", Resource: QueueArn,
    Condition: { ArnEquals: { "aws:SourceArn": RuleArn } },
  };
  await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { Policy: JSON.stringify({ Version: "2012-10-17", Statement: [statement] }) } }));
  await events.send(new PutTargetsCommand({ Rule: name, EventBusName, Targets: [{ Id: "queue", Arn: QueueArn }] }));
  const put = await events.send(new PutEventsCommand({
    Entries: [{ Source: name, DetailType: "Hello", Detail: '{"n":1}', EventBusName }, { Source: name, DetailType: "Hello", Detail: "{", EventBusName }],
  }));
  assert.equal(put.FailedEntryCount, 1);
  assert.equal(put.Entries[1].ErrorCode, "MalformedDetail");
  const { Messages: [message] } = await sqs.send(new ReceiveMessageCommand({ QueueUrl, WaitTimeSeconds: 20 }));
  assert.equal(JSON.parse(message.Body).id, put.Entries[0].EventId);
  await until("the event in the log", async () => {
    const logGroupName = outputs.WebCatchAllLogGroupArn.split(":log-group:")[1].replace(/:\*$/, "");
    return (await all(paginateFilterLogEvents({ client: logs }, { logGroupName, filterPattern: `{ $.source = "${name}" }` }), "events")).length === 1;
  });
  const Event = JSON.stringify({ id: "1", account: "1", source: name, time: "2026-11-23T18:22:06Z", region: "us-east-1", resources: [], "detail-type": "T", detail: {} });
  assert.equal((await events.send(new TestEventPatternCommand({ EventPattern: JSON.stringify({ source: [{ prefix: "sdk-" }] }), Event }))).Result, true);
  await refused(events.send(new TestEventPatternCommand({ EventPattern: "{", Event })), InvalidEventPatternException);
  await refused(events.send(new DescribeEventBusCommand({ Name: "nobodys" })), EventsResourceNotFoundException);
  await events.send(new RemoveTargetsCommand({ Rule: name, EventBusName, Ids: ["queue"] }));
  await events.send(new DeleteRuleCommand({ Name: name, EventBusName }));
  await sqs.send(new DeleteQueueCommand({ QueueUrl }));
});

test("Step Functions: start, list, history, stop, errors", async () => {
  const stateMachineArn = outputs.ApprovalStateMachineArn;
  const detail = {
    property_id: `usa/${name}/main-street/1`, address: { country: "usa", city: name, street: "main-street", number: 1 }, status: "PENDING",
    description: "A lovely home.", images: ["usa/anytown/main-street-111.png"], contract: "sale", listprice: 1, currency: "USD",
  };
  const input = { version: "0", id: randomUUID(), "detail-type": "PublicationApprovalRequested", source: "unicorn-web", account: "1", time: "2026-11-23T18:22:06Z", region: "us-east-1", resources: [detail.property_id], detail };
  const { executionArn } = await states.send(new StartExecutionCommand({ stateMachineArn, name, input: JSON.stringify(input) }));
  assert.ok((await all(paginateListExecutions({ client: states, pageSize: 1 }, { stateMachineArn }), "executions")).some((execution) => execution.executionArn === executionArn));
  await states.send(new StopExecutionCommand({ executionArn, error: "Tests", cause: "over" }));
  const { status, stopDate } = await states.send(new DescribeExecutionCommand({ executionArn }));
  assert.equal(status, "ABORTED");
  assert.ok(stopDate instanceof Date);
  const history = await all(paginateGetExecutionHistory({ client: states, pageSize: 2 }, { executionArn }), "events");
  assert.deepEqual([history[0].type, history.at(-1).type], ["ExecutionStarted", "ExecutionAborted"]);
  await refused(states.send(new DescribeExecutionCommand({ executionArn: `${executionArn}x` })), ExecutionDoesNotExist);
  await refused(states.send(new DescribeExecutionCommand({ executionArn: "nonsense" })), InvalidArn);
  await refused(states.send(new StartExecutionCommand({ stateMachineArn, name, input: "{}" })), ExecutionAlreadyExists);
  await refused(states.send(new DescribeStateMachineCommand({ stateMachineArn: `${stateMachineArn}x` })), StateMachineDoesNotExist);
  await refused(states.send(new SendTaskSuccessCommand({ taskToken: "nonsense", output: "{}" })), InvalidToken);
  assert.ok((await all(paginateListStateMachines({ client: states }, {}), "stateMachines")).some((machine) => machine.stateMachineArn === stateMachineArn));
});

test("CloudWatch Logs: groups, streams and events in pages", async () => {
  const logGroupName = `/sdk/${name}`, logStreamName = "s", now = Date.now();
  await logs.send(new CreateLogGroupCommand({ logGroupName }));
  await refused(logs.send(new CreateLogGroupCommand({ logGroupName })), ResourceAlreadyExistsException);
  await logs.send(new CreateLogStreamCommand({ logGroupName, logStreamName }));
  await logs.send(new PutLogEventsCommand({ logGroupName, logStreamName, logEvents: [0, 1, 2].map((n) => ({ timestamp: now + n, message: `line ${n}` })) }));
  const found = await all(paginateFilterLogEvents({ client: logs, pageSize: 1 }, { logGroupName }), "events");
  assert.deepEqual(found.map((event) => event.message), ["line 0", "line 1", "line 2"]);
  const { events: [last], nextBackwardToken } = await logs.send(new GetLogEventsCommand({ logGroupName, logStreamName, limit: 1 }));
  assert.equal(last.message, "line 2");
  const before = await logs.send(new GetLogEventsCommand({ logGroupName, logStreamName, limit: 1, nextToken: nextBackwardToken }));
  assert.equal(before.events[0].message, "line 1");
  assert.deepEqual((await all(paginateDescribeLogStreams({ client: logs }, { logGroupName }), "logStreams")).map((stream) => stream.logStreamName), ["s"]);
  assert.ok((await all(paginateDescribeLogGroups({ client: logs, pageSize: 2 }, {}), "logGroups")).length > 2);
  await logs.send(new DeleteLogGroupCommand({ logGroupName }));
  await refused(logs.send(new GetLogEventsCommand({ logGroupName, logStreamName })), LogsResourceNotFoundException);
});

test("S3: an object goes in, is listed, comes out and goes", async () => {
  const Bucket = outputs.ImagesBucketName, Key = `${name}/ä b.txt`;
  await s3.send(new PutObjectCommand({ Bucket, Key, Body: "hello", ContentType: "text/plain", Metadata: { a: "b" } }));
  assert.deepEqual((await all(paginateListObjectsV2({ client: s3, pageSize: 1 }, { Bucket, Prefix: name }), "Contents")).map((object) => object.Key), [Key]);
  const got = await s3.send(new GetObjectCommand({ Bucket, Key }));
  assert.equal(await got.Body.transformToString(), "hello");
  assert.deepEqual(got.Metadata, { a: "b" });
  await waitUntilBucketExists({ client: s3, maxWaitTime: 30 }, { Bucket });
  await waitUntilObjectExists({ client: s3, maxWaitTime: 30 }, { Bucket, Key });
  await s3.send(new DeleteObjectCommand({ Bucket, Key }));
  await waitUntilObjectNotExists({ client: s3, maxWaitTime: 30 }, { Bucket, Key });
  await refused(s3.send(new GetObjectCommand({ Bucket, Key })), NoSuchKey, 404);
  await assert.rejects(s3.send(new HeadObjectCommand({ Bucket, Key })), NotFound);
  await refused(s3.send(new PutObjectCommand({ Bucket: `${name}-nobodys`, Key, Body: "x" })), NoSuchBucket, 404);
  const several = await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: "a" }, { Key: "b" }] } }));
  assert.deepEqual(several.Deleted.map((deleted) => deleted.Key), ["a", "b"]);
});

test("Lambda: functions are listed and invoked", async () => {
  const functions = await all(paginateListFunctions({ client: lambda, pageSize: 3 }, {}), "Functions");
  const FunctionName = functions.map((item) => item.FunctionName).find((item) => item.includes("contracts-ingest"));
  const answer = await lambda.send(new InvokeCommand({ FunctionName, Payload: JSON.stringify({ Records: [] }), LogType: "Tail" }));
  assert.equal(answer.StatusCode, 200);
  assert.equal(answer.FunctionError, undefined);
  assert.deepEqual(JSON.parse(answer.Payload.transformToString()), { batchItemFailures: [] });
  assert.ok(Buffer.from(answer.LogResult, "base64").length > 0);
  await refused(lambda.send(new InvokeCommand({ FunctionName: "nobodys" })), ResourceNotFoundException, 404);
  await refused(lambda.send(new InvokeCommand({ FunctionName, Payload: "{" })), InvalidRequestContentException);
  await waitUntilFunctionActiveV2({ client: lambda, maxWaitTime: 30 }, { FunctionName });
  assert.equal((await lambda.send(new GetFunctionCommand({ FunctionName }))).Configuration.FunctionName, FunctionName);
  assert.ok((await all(paginateListEventSourceMappings({ client: lambda }, { FunctionName }), "EventSourceMappings")).length === 1);
});

test("SSM: parameters are put, read, listed in pages and deleted", async () => {
  const ssm = new SSMClient({}), Path = `/sdk/${name}`, Names = [`${Path}/a`, `${Path}/b`];
  for (const Name of Names) await ssm.send(new PutParameterCommand({ Name, Value: "1", Type: "String" }));
  await refused(ssm.send(new PutParameterCommand({ Name: Names[0], Value: "2", Type: "String" })), ParameterAlreadyExists);
  assert.ok((await ssm.send(new GetParameterCommand({ Name: Names[0] }))).Parameter.LastModifiedDate instanceof Date);
  assert.deepEqual((await ssm.send(new GetParametersCommand({ Names: [...Names, "none"] }))).InvalidParameters, ["none"]);
  assert.deepEqual((await all(paginateGetParametersByPath({ client: ssm, pageSize: 1 }, { Path }), "Parameters")).map((parameter) => parameter.Name), Names);
  for (const Name of Names) await ssm.send(new DeleteParameterCommand({ Name }));
  await refused(ssm.send(new GetParameterCommand({ Name: Names[0] })), ParameterNotFound);
  ssm.destroy();
});

test("Pipes and schemas are described", async () => {
  const pipes = new PipesClient({}), schemas = new SchemasClient({});
  const [{ Name }] = await all(paginateListPipes({ client: pipes }, {}), "Pipes");
  assert.equal((await pipes.send(new DescribePipeCommand({ Name }))).CurrentState, "RUNNING");
  await refused(pipes.send(new DescribePipeCommand({ Name: "nobodys" })), PipeNotFoundException, 404);
  for (const { RegistryName } of await all(paginateListRegistries({ client: schemas }, {}), "Registries")) {
    for (const { SchemaName } of await all(paginateListSchemas({ client: schemas }, { RegistryName }), "Schemas")) {
      const schema = await schemas.send(new DescribeSchemaCommand({ RegistryName, SchemaName }));
      assert.ok(JSON.parse(schema.Content).openapi);
      assert.ok(schema.LastModified instanceof Date);
    }
    await refused(schemas.send(new DescribeSchemaCommand({ RegistryName, SchemaName: "nobodys" })), SchemaNotFoundException, 404);
  }
  [pipes, schemas].forEach((client) => client.destroy());
});

test("Comprehend, Rekognition and STS answer", async () => {
  const comprehend = new ComprehendClient({}), rekognition = new RekognitionClient({}), sts = new STSClient({});
  const { Sentiment } = await comprehend.send(new DetectSentimentCommand({ Text: "A lovely home with a wonderful garden.", LanguageCode: "en" }));
  assert.equal(Sentiment, "POSITIVE");
  await refused(comprehend.send(new DetectSentimentCommand({ Text: "x".repeat(5001), LanguageCode: "en" })), TextSizeLimitExceededException);
  const image = (Name) => new DetectModerationLabelsCommand({ Image: { S3Object: { Bucket: outputs.ImagesBucketName, Name } } });
  assert.deepEqual((await rekognition.send(image("usa/anytown/main-street-111.png"))).ModerationLabels, []);
  await refused(rekognition.send(image("nobodys.png")), InvalidS3ObjectException);
  assert.match((await sts.send(new GetCallerIdentityCommand({}))).Account, /^\d{12}$/);
  [comprehend, rekognition, sts].forEach((client) => client.destroy());
});

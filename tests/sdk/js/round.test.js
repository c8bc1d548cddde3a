// A round through the services with the JavaScript SDK v3, as a user of AWS would write it.
// Run with `node --test`; AWS_ENDPOINT_URL and the stack's outputs are all that it knows.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { CloudFormationClient, DescribeStacksCommand } from "@aws-sdk/client-cloudformation";
import { CloudWatchLogsClient, paginateFilterLogEvents } from "@aws-sdk/client-cloudwatch-logs";
import {
  ConditionalCheckFailedException, CreateTableCommand, DeleteTableCommand, DynamoDBClient, GetItemCommand,
  PutItemCommand, TransactWriteItemsCommand, paginateListTables, paginateScan, waitUntilTableExists,
} from "@aws-sdk/client-dynamodb";
import {
  DeleteRuleCommand, EventBridgeClient, PutEventsCommand, PutRuleCommand, PutTargetsCommand, RemoveTargetsCommand,
} from "@aws-sdk/client-eventbridge";
import { InvokeCommand, LambdaClient, ResourceNotFoundException, paginateListFunctions } from "@aws-sdk/client-lambda";
import { DeleteObjectCommand, GetObjectCommand, NoSuchKey, PutObjectCommand, S3Client, paginateListObjectsV2 } from "@aws-sdk/client-s3";
import {
  DescribeExecutionCommand, ExecutionDoesNotExist, SFNClient, StartExecutionCommand, StopExecutionCommand,
  paginateGetExecutionHistory, paginateListExecutions,
} from "@aws-sdk/client-sfn";
import {
  CreateQueueCommand, DeleteMessageCommand, DeleteQueueCommand, GetQueueAttributesCommand, QueueDoesNotExist,
  ReceiveMessageCommand, SQSClient, SendMessageBatchCommand, SendMessageCommand, SetQueueAttributesCommand,
} from "@aws-sdk/client-sqs";

assert.ok(process.env.AWS_ENDPOINT_URL, "AWS_ENDPOINT_URL is not set");
process.env.AWS_REGION ??= process.env.AWS_DEFAULT_REGION ?? "us-east-1";
process.env.AWS_ACCESS_KEY_ID ??= "any";
process.env.AWS_SECRET_ACCESS_KEY ??= "any";

const dynamodb = new DynamoDBClient({}), sqs = new SQSClient({}), events = new EventBridgeClient({});
const states = new SFNClient({}), s3 = new S3Client({}), lambda = new LambdaClient({}), logs = new CloudWatchLogsClient({});
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
  const { Stacks } = await new CloudFormationClient({}).send(new DescribeStacksCommand({ StackName: process.env.STACK_NAME ?? "uni-prop-local" }));
  outputs = Object.fromEntries(Stacks[0].Outputs.map((output) => [output.OutputKey, output.OutputValue]));
});

after(() => [dynamodb, sqs, events, states, s3, lambda, logs].forEach((client) => client.destroy()));

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
  await dynamodb.send(new DeleteTableCommand({ TableName: name }));
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
  await sqs.send(new DeleteQueueCommand({ QueueUrl }));
  await assert.rejects(sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: "x" })), QueueDoesNotExist);
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
  await assert.rejects(states.send(new DescribeExecutionCommand({ executionArn: `${executionArn}x` })), ExecutionDoesNotExist);
});

test("S3: an object goes in, is listed, comes out and goes", async () => {
  const Bucket = outputs.ImagesBucketName, Key = `${name}/ä b.txt`;
  await s3.send(new PutObjectCommand({ Bucket, Key, Body: "hello", ContentType: "text/plain", Metadata: { a: "b" } }));
  assert.deepEqual((await all(paginateListObjectsV2({ client: s3, pageSize: 1 }, { Bucket, Prefix: name }), "Contents")).map((object) => object.Key), [Key]);
  const got = await s3.send(new GetObjectCommand({ Bucket, Key }));
  assert.equal(await got.Body.transformToString(), "hello");
  assert.deepEqual(got.Metadata, { a: "b" });
  await s3.send(new DeleteObjectCommand({ Bucket, Key }));
  await assert.rejects(s3.send(new GetObjectCommand({ Bucket, Key })), NoSuchKey);
});

test("Lambda: functions are listed and invoked", async () => {
  const functions = await all(paginateListFunctions({ client: lambda, pageSize: 3 }, {}), "Functions");
  const FunctionName = functions.map((item) => item.FunctionName).find((item) => item.includes("contracts-ingest"));
  const answer = await lambda.send(new InvokeCommand({ FunctionName, Payload: JSON.stringify({ Records: [] }), LogType: "Tail" }));
  assert.equal(answer.StatusCode, 200);
  assert.equal(answer.FunctionError, undefined);
  assert.deepEqual(JSON.parse(answer.Payload.transformToString()), { batchItemFailures: [] });
  assert.ok(Buffer.from(answer.LogResult, "base64").length > 0);
  await assert.rejects(lambda.send(new InvokeCommand({ FunctionName: "nobodys" })), ResourceNotFoundException);
});

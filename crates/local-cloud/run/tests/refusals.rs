//! The local cloud refuses what it does not emulate before anything runs. Each case changes one place of the
//! real templates; the refusal must name the file, the resource (or path) and the property.

// clippy.toml allows these in tests, but not in helpers of integration tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cloud_core::clock::Clock;
use cloud_core::random::Random;
use local_cloud::services::SERVICES;
use local_cloud::{Cloud, Settings, deploy, project};

const ROOT: &str = "template.yaml";
const CONTRACTS: &str = "contracts-service/template.yaml";
const API: &str = "contracts-service/api.yaml";
const PROPERTIES: &str = "properties-service/template.yaml";
const WORKFLOW: &str = "properties-service/approval.asl.yaml";

/// The changed file, the text replaced there (once), the new text, and the words that the refusal must contain.
type Case = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// A row of the table "What is refused" in README.md, and its cases.
type Row = (&'static str, &'static str, &'static [Case]);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("every type", "a property or an attribute that it does not have or that is not emulated", &[
        (CONTRACTS, "      VisibilityTimeout: 60", "      VisibilityTimeOut: 60", &[CONTRACTS, "IngestQueue", "VisibilityTimeOut"]),
        (CONTRACTS, "      BillingMode: PAY_PER_REQUEST", "      BilingMode: PAY_PER_REQUEST", &[CONTRACTS, "ContractsTable", "BilingMode"]),
        (CONTRACTS, "OnPartialBatchItemFailure: AUTOMATIC_BISECT", "OnPartialBatchFailure: AUTOMATIC_BISECT", &[CONTRACTS, "StatusPipe", "OnPartialBatchFailure"]),
        (CONTRACTS, "      Name: !Sub unicorn-contracts-eventbus-${Stage}", "      EventSourceName: x\n      Name: x", &[CONTRACTS, "EventBus", "EventSourceName"]),
        (CONTRACTS, "      RetentionDays: !FindInMap [ByStage, !Ref Stage, ArchiveDays]", "      Retention: 1", &[CONTRACTS, "EventArchive", "Retention"]),
        (CONTRACTS, "      RetentionInDays: !If [RetentionByStage, !FindInMap [ByStage, !Ref Stage, LogDays], !Ref LogRetentionDays]", "      RetentionDays: 1", &[CONTRACTS, "ApiLogs", "RetentionDays"]),
        (CONTRACTS, "      Description: The events of the contracts service.", "      Descripton: x", &[CONTRACTS, "SchemaRegistry", "Descripton"]),
        (CONTRACTS, "      SchemaName: unicorn-contracts@ContractStatusChanged", "      SchemaNam: x", &[CONTRACTS, "ContractStatusChangedSchema", "SchemaNam"]),
        (CONTRACTS, "      Description: Applies the commands", "      Layers: []\n      Description: Applies the commands", &[CONTRACTS, "IngestFunction", "Layers"]),
        (CONTRACTS, "      BatchSize: 10\n      # No", "      BatchSise: 10\n      # No", &[CONTRACTS, "IngestMapping", "BatchSise"]),
        (CONTRACTS, "      TracingEnabled: true", "      CacheClusterEnabled: true", &[CONTRACTS, "Api", "CacheClusterEnabled"]),
        (CONTRACTS, "      Principal: apigateway.amazonaws.com", "      Principle: apigateway.amazonaws.com", &[CONTRACTS, "QueryFunctionPermission", "Principle"]),
        (CONTRACTS, "      AssumeRolePolicyDocument:", "      AssumeRolePolicy:", &[CONTRACTS, "ApiRole", "AssumeRolePolicy"]),
        (CONTRACTS, "      Queues: [!Ref IngestQueue, !Ref IngestDLQ]", "      Queue: [!Ref IngestQueue]", &[CONTRACTS, "IngestQueuePolicy", "Queue"]),
        (CONTRACTS, "    UpdateReplacePolicy: Retain", "    UpdateReplacePolcy: Retain", &[CONTRACTS, "IngestQueue", "UpdateReplacePolcy"]),
        (PROPERTIES, "      TreatMissingData:", "      TreatMissingDate:", &[PROPERTIES, "Alarm", "TreatMissingDate"]),
    ]),
    ("every type", "a value of another kind or outside the limits of AWS", &[
        (CONTRACTS, "RetentionInDays: !If [RetentionByStage, !FindInMap [ByStage, !Ref Stage, LogDays], !Ref LogRetentionDays]", "RetentionInDays: 31", &[CONTRACTS, "ApiLogs", "RetentionInDays", "31"]),
        (CONTRACTS, "BatchSize: 10\n      # No", "BatchSize: ten\n      # No", &[CONTRACTS, "IngestMapping", "BatchSize"]),
        (CONTRACTS, "[ReportBatchItemFailures]", "[ReportEverything]", &[CONTRACTS, "IngestMapping", "FunctionResponseTypes", "ReportEverything"]),
        (CONTRACTS, "maxReceiveCount: 35", "maxReceiveCount: 0", &[CONTRACTS, "IngestQueue", "maxReceiveCount"]),
        (CONTRACTS, "      QueueName: !Sub uni-prop-${Stage}-contracts-ingest\n", "      QueueName: [x]\n", &[CONTRACTS, "IngestQueue", "QueueName", "string"]),
        (CONTRACTS, "BatchSize: 10\n          # With", "BatchSize: {}\n          # With", &[CONTRACTS, "StatusPipe", "BatchSize"]),
        (CONTRACTS, "    MemorySize: 256", "    MemorySize: much", &[CONTRACTS, "Function", "MemorySize"]),
    ]),
    ("templates", "types, functions, references and files that are not known", &[
        (CONTRACTS, "!GetAtt IngestDLQ.Arn", "!GetAtt NoSuchQueue.Arn", &[CONTRACTS, "IngestQueue", "NoSuchQueue"]),
        (CONTRACTS, "Target: !GetAtt EventBus.Arn", "Target: !GetAtt EventBus.Arm", &[CONTRACTS, "StatusPipe", "Arm"]),
        (CONTRACTS, "uni-prop-${Stage}-contract-status", "uni-prop-${Stag}-contract-status", &[CONTRACTS, "StatusPipe", "Stag"]),
        (CONTRACTS, "!Sub uni-prop-${Stage}-contracts-ingest", "!Cidr [10.0.0.0/8, 1, 8]", &[CONTRACTS, "IngestQueue", "Cidr"]),
        (CONTRACTS, "    Type: AWS::SQS::Queue", "    Type: AWS::Kinesis::Stream", &[CONTRACTS, "IngestQueue", "AWS::Kinesis::Stream"]),
        (ROOT, "      Location: contracts-service/template.yaml", "      Location: contracts-service/no-such.yaml", &["no-such.yaml", "cannot be read"]),
    ]),
    ("API Gateway", "integrations other than queues, functions and mocks", &[
        (API, "        type: aws\n", "        type: http\n", &[API, "Api.Properties.Body", "/contracts", "http"]),
        (API, "sqs:path/", "sqs:action/", &[API, "Api.Properties.Body", "/contracts", "sqs:action/"]),
    ]),
    ("API Gateway", "fields, extensions and values of an OpenAPI document that are not known", &[
        (API, "        passthroughBehavior: never", "        passthroughBehavior: sometimes", &[API, "Api.Properties.Body", "/contracts", "passthroughBehavior", "sometimes"]),
        (API, "        passthroughBehavior: never", "        passthroughBehaviour: never", &[API, "Api.Properties.Body", "/contracts", "passthroughBehaviour"]),
        (API, "  DEFAULT_4XX:", "  DEFAULT_6XX:", &[API, "Api.Properties.Body", "DEFAULT_6XX"]),
        (API, "#/components/schemas/CreateContract", "#/components/schemas/NoSuchModel", &[API, "Api.Properties.Body", "NoSuchModel"]),
        (API, "      operationId: createContract", "      security: []\n      operationId: createContract", &[API, "Api.Properties.Body", "/contracts", "security"]),
    ]),
    ("API Gateway", "functions and variables of mapping templates that are not known, JSONPaths with filters, wildcards or deep scans", &[
        (API, "$util.urlEncode($input.body)", "$util.urlEncod($input.body)", &[API, "Api.Properties.Body", "/contracts", "urlEncod"]),
        (API, "$context.httpMethod", "$context.httpVerb", &[API, "Api.Properties.Body", "/contracts", "httpVerb"]),
        (API, "$input.path('$.Error.Code')", "$input.path('$..Code')", &[API, "Api.Properties.Body", "/contracts", "$..Code"]),
    ]),
    ("API Gateway", "caches, authorisers, private endpoints, binary media types, access logs without a request id", &[
        (CONTRACTS, "        Type: REGIONAL", "        Type: PRIVATE", &[CONTRACTS, "Api", "EndpointConfiguration", "PRIVATE"]),
        (CONTRACTS, "      TracingEnabled: true", "      Auth: {}\n      TracingEnabled: true", &[CONTRACTS, "Api", "Auth"]),
        (CONTRACTS, "      TracingEnabled: true", "      BinaryMediaTypes: [\"*/*\"]\n      TracingEnabled: true", &[CONTRACTS, "Api", "BinaryMediaTypes"]),
        (CONTRACTS, "{\"requestId\":\"$context.extendedRequestId\",", "{", &[CONTRACTS, "AccessLogSetting.Format", "$context.requestId"]),
    ]),
    ("DynamoDB", "imports, Kinesis streams, warm throughput", &[
        (CONTRACTS, "      BillingMode: PAY_PER_REQUEST", "      BillingMode: PAY_PER_REQUEST\n      KinesisStreamSpecification: { StreamArn: x }", &[CONTRACTS, "ContractsTable", "KinesisStreamSpecification"]),
        (CONTRACTS, "      BillingMode: PAY_PER_REQUEST", "      BillingMode: PAY_PER_REQUEST\n      ImportSourceSpecification: {}", &[CONTRACTS, "ContractsTable", "ImportSourceSpecification"]),
        (CONTRACTS, "      BillingMode: PAY_PER_REQUEST", "      BillingMode: PAY_PER_REQUEST\n      WarmThroughput: {}", &[CONTRACTS, "ContractsTable", "WarmThroughput"]),
    ]),
    ("EventBridge", "schedules, and targets other than functions, state machines, buses, log groups and queues", &[
        (CONTRACTS, "      State: ENABLED", "      ScheduleExpression: rate(1 minute)", &[CONTRACTS, "CatchAllRule", "ScheduleExpression"]),
        (CONTRACTS, "        - Id: log", "        - Id: log\n          EcsParameters: {}", &[CONTRACTS, "CatchAllRule", "EcsParameters"]),
        (CONTRACTS, "          Arn: !Sub \"arn:${AWS::Partition}:logs:", "          Arn: !Sub \"arn:${AWS::Partition}:sns:", &[CONTRACTS, "CatchAllRule", "Targets", ":sns:"]),
    ]),
    ("EventBridge", "operators of event patterns that are not known", &[
        (CONTRACTS, "        account: [!Ref AWS::AccountId]", "        account: [{ matches: x }]", &[CONTRACTS, "CatchAllRule", "EventPattern", "matches"]),
    ]),
    ("Event source mappings", "sources other than queues and table streams, tumbling windows", &[
        (PROPERTIES, "      EventSourceArn: !GetAtt ContractStatusTable.StreamArn", "      EventSourceArn: arn:aws:kinesis:us-east-1:111111111111:stream/s", &[PROPERTIES, "ContractStatusStreamMapping", "EventSourceArn"]),
        (PROPERTIES, "      BisectBatchOnFunctionError: true", "      TumblingWindowInSeconds: 30", &[PROPERTIES, "TumblingWindowInSeconds"]),
    ]),
    ("Lambda", "packages other than Zip, runtimes other than provided.al2023", &[
        (CONTRACTS, "    Runtime: provided.al2023", "    Runtime: python3.13", &[CONTRACTS, "Function", "Runtime", "python3.13"]),
        (CONTRACTS, "    Runtime: provided.al2023", "    PackageType: Image\n    Runtime: provided.al2023", &[CONTRACTS, "PackageType"]),
    ]),
    ("Pipes", "enrichment, sources other than table streams, targets other than buses", &[
        (CONTRACTS, "      Target: !GetAtt EventBus.Arn", "      Target: !GetAtt EventBus.Arn\n      Enrichment: x", &[CONTRACTS, "StatusPipe", "Enrichment"]),
        (CONTRACTS, "      Source: !GetAtt ContractsTable.StreamArn", "      Source: !GetAtt IngestQueue.Arn", &[CONTRACTS, "StatusPipe", "Source", ":sqs:"]),
        (CONTRACTS, "      Target: !GetAtt EventBus.Arn", "      Target: !GetAtt IngestQueue.Arn", &[CONTRACTS, "StatusPipe", "Target", ":sqs:"]),
    ]),
    ("Pipes", "filters, starting positions and template variables that are not known", &[
        (CONTRACTS, "StartingPosition: TRIM_HORIZON", "StartingPosition: AT_TIMESTAMP", &[CONTRACTS, "StatusPipe", "AT_TIMESTAMP"]),
        (CONTRACTS, "[{\"exists\":false},{\"anything-but\":[\"DRAFT\"]}]", "[{\"exist\":false}]", &[CONTRACTS, "StatusPipe", "Filter", "exist"]),
        (CONTRACTS, "<$.dynamodb.NewImage.contract_id.S>", "<aws.pipes.no-such>", &[CONTRACTS, "StatusPipe", "InputTemplate", "aws.pipes.no-such"]),
    ]),
    ("S3", "versions, notifications and lifecycle of a bucket, encryption other than AES256", &[
        (ROOT, "              SSEAlgorithm: AES256", "              SSEAlgorithm: aws:kms", &[ROOT, "ImagesBucket", "BucketEncryption", "aws:kms"]),
        (ROOT, "      PublicAccessBlockConfiguration:", "      LifecycleConfiguration: {}\n      PublicAccessBlockConfiguration:", &[ROOT, "ImagesBucket", "LifecycleConfiguration"]),
        (ROOT, "      PublicAccessBlockConfiguration:", "      NotificationConfiguration: {}\n      PublicAccessBlockConfiguration:", &[ROOT, "ImagesBucket", "NotificationConfiguration"]),
        (ROOT, "      PublicAccessBlockConfiguration:", "      VersioningConfiguration: { Status: Enabled }\n      PublicAccessBlockConfiguration:", &[ROOT, "ImagesBucket", "VersioningConfiguration"]),
    ]),
    ("Schemas", "types other than OpenApi3", &[
        (CONTRACTS, "Type: OpenApi3", "Type: Avro", &[CONTRACTS, "ContractStatusChangedSchema", "Avro"]),
    ]),
    ("SQS", "FIFO queues", &[
        (CONTRACTS, "      VisibilityTimeout: 60", "      FifoQueue: true\n      VisibilityTimeout: 60", &[CONTRACTS, "IngestQueue", "FifoQueue"]),
    ]),
    ("SSM", "secrets and policies", &[
        (ROOT, "  ImagesBucket:\n", "  Secret: { Type: AWS::SSM::Parameter, Properties: { Type: SecureString, Value: x } }\n  ImagesBucket:\n", &[ROOT, "Secret", "SecureString"]),
        (ROOT, "  ImagesBucket:\n", "  Text: { Type: AWS::SSM::Parameter, Properties: { Type: String, Value: x, Policies: \"[]\" } }\n  ImagesBucket:\n", &[ROOT, "Text", "Policies"]),
    ]),
    ("Step Functions", "JSONPath and Express workflows", &[
        (WORKFLOW, "QueryLanguage: JSONata", "QueryLanguage: JSONPath", &[WORKFLOW, "QueryLanguage", "JSONPath"]),
        (PROPERTIES, "      Type: STANDARD", "      Type: EXPRESS", &[PROPERTIES, "StateMachineType", "STANDARD"]),
    ]),
    ("Step Functions", "states, fields, integrations, expressions and substitutions that are not known", &[
        (WORKFLOW, "    TimeoutSeconds: 10 #", "    TimeoutSecond: 10 #", &[WORKFLOW, "ClaimRequest", "TimeoutSecond"]),
        (WORKFLOW, "    Type: Wait\n", "    Type: Sleep\n", &[WORKFLOW, "WaitForContractEvent", "Sleep"]),
        (WORKFLOW, "    Next: FindContract\n", "    Next: NoSuchState\n", &[WORKFLOW, "ClaimRequest", "NoSuchState"]),
        (WORKFLOW, "arn:aws:states:::dynamodb:getItem", "arn:aws:states:::dynamodb:getItems", &[WORKFLOW, "FindContract", "dynamodb:getItems"]),
        (WORKFLOW, "{% $lookups + 1 %}", "{% $lookups + %}", &[WORKFLOW, "FindContract", "lookups"]),
        (WORKFLOW, "${ContractLookupAttempts}", "${NoSuchSubstitution}", &[WORKFLOW, "NoSuchSubstitution"]),
        (WORKFLOW, "JitterStrategy: FULL", "JitterStrategy: SOME", &[WORKFLOW, "ClaimRequest", "JitterStrategy"]),
    ]),
];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// Copies the templates, and changes one of them.
fn copy(to: &Path, case: &Case) {
    let (changed, old, new, _) = case;
    let mut files = vec![ROOT.to_owned()];
    for service in ["contracts-service", "properties-service", "web-service"] {
        std::fs::create_dir(to.join(service)).unwrap();
        for entry in std::fs::read_dir(project().join(service)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".yaml") {
                files.push(format!("{service}/{name}"));
            }
        }
    }
    for file in files {
        let mut text = std::fs::read_to_string(project().join(&file)).unwrap();
        if file == *changed {
            assert!(text.contains(old), "{file} has no `{old}` any more");
            text = text.replacen(old, new, 1);
        }
        std::fs::write(to.join(&file), text).unwrap();
    }
}

/// The refusal of a project; `None` where it can start.
async fn refusal(project: &Path) -> Option<String> {
    let settings = Settings { project: project.to_owned(), ..Settings::for_tests() };
    let parameters = BTreeMap::from([("Stage".into(), "local".into()), ("Owner".into(), "test".into())]);
    let here = "http://127.0.0.1";
    let loaded = project::load(project, ROOT, "uni-prop-local", &parameters, &settings, here, here);
    let application = match loaded {
        Ok(application) => application,
        Err(refusal) => return Some(refusal.to_string()),
    };
    let cloud = Cloud::open(settings, Clock::system(), Random::seeded(1), SERVICES).unwrap();
    deploy::deploy(&cloud, &application).await.err().map(|refusal| refusal.to_string())
}

#[tokio::test]
async fn the_templates_as_they_are_can_be_run() {
    assert_eq!(refusal(&project()).await, None);
}

#[tokio::test]
async fn what_is_not_emulated_is_refused_in_one_sentence_that_names_it() {
    let mut wrong = Vec::new();
    for case in ROWS.iter().flat_map(|(_, _, cases)| *cases) {
        let folder = tempfile::tempdir().unwrap();
        copy(folder.path(), case);
        let said = refusal(folder.path()).await.unwrap_or_else(|| "nothing: it is ignored".into());
        let missing: Vec<_> = case.3.iter().filter(|name| !said.contains(**name)).collect();
        if !missing.is_empty() || said.contains('\n') {
            wrong.push(format!(
                "`{}` instead of `{}`:\n    {said}\n    does not name {missing:?}",
                case.2, case.1
            ));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

/// The document lists exactly the refusals that are tested here.
#[test]
fn the_table_of_refusals_is_what_is_tried() {
    let document = include_str!("../../README.md");
    let (_, table) = document.split_once("| of | refused by name |\n|---|---|\n").unwrap();
    let documented: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let tried: Vec<String> = ROWS.iter().map(|(of, what, _)| format!("| {of} | {what} |")).collect();
    assert_eq!(documented, tried);
    assert!(ROWS.iter().all(|(_, _, cases)| !cases.is_empty()), "a row without a case");
}

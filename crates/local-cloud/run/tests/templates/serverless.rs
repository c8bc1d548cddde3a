//! The SAM transform, tested on evaluated resources.

use serde_json::{Value, json};

use super::*;

const FUNCTION: &str = "
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Timeout: 10
    Runtime: provided.al2023
    Handler: bootstrap
    Tracing: Active
    Environment: {Variables: {A: 1, B: two}}
    Tags: {Owner: me}
Resources:
  Queue: {Type: AWS::SQS::Queue, Properties: {QueueName: q}}
  Table: {Type: AWS::DynamoDB::Table, Properties: {TableName: t, StreamSpecification: {StreamViewType: NEW_IMAGE}}}
  Fn:
    Type: AWS::Serverless::Function
    Metadata: {BuildMethod: rust-cargolambda, BuildProperties: {Binary: my-binary}}
    Properties:
      FunctionName: f
      CodeUri: ../
      Timeout: 20
      Environment: {Variables: {B: own}}
      Tags: {Stage: local}
      Policies:
        - AWSLambdaBasicExecutionRole
        - Statement: [{Effect: Allow, Action: 'sqs:SendMessage', Resource: !GetAtt Queue.Arn, Condition: {Bool: {a: b}}}]
      DeadLetterQueue: {Type: SQS, TargetArn: !GetAtt Queue.Arn}
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Queue.Arn}}
      Events:
        FromQueue:
          Type: SQS
          Properties: {Queue: !GetAtt Queue.Arn, BatchSize: 10, FunctionResponseTypes: [ReportBatchItemFailures], ScalingConfig: {MaximumConcurrency: 5}}
        FromTable:
          Type: DynamoDB
          Properties:
            Stream: !GetAtt Table.StreamArn
            StartingPosition: TRIM_HORIZON
            BisectBatchOnFunctionError: true
            DestinationConfig: {OnFailure: {Type: SQS, Destination: !GetAtt Queue.Arn}}
        FromBus:
          Type: EventBridgeRule
          Properties:
            EventBusName: bus
            Pattern: {source: [a]}
            RetryPolicy: {MaximumRetryAttempts: 3}
            DeadLetterConfig: {Type: SQS}
";

/// Compared by hand with the output of aws-sam-translator 1.115 for the same template.
#[test]
fn a_sam_function_becomes_what_sams_own_translator_makes_of_it() {
    let application = load_one(FUNCTION).unwrap();
    assert_eq!(
        ids(&application),
        [
            "Fn",
            "FnEventInvokeConfig",
            "FnFromBus",
            "FnFromBusPermission",
            "FnFromBusQueue",
            "FnFromBusQueuePolicy",
            "FnFromQueue",
            "FnFromTable",
            "FnRole",
            "Queue",
            "Table"
        ]
    );
    let function = find(&application, "Fn");
    let role = find(&application, "FnRole");
    assert_eq!(function.kind, "AWS::Lambda::Function");
    assert_eq!(function.metadata["Binary"], "my-binary");
    assert_eq!(
        function.properties,
        json!({
            "FunctionName": "f",
            "Handler": "bootstrap",
            "Runtime": "provided.al2023",
            "Timeout": 20,
            "Environment": { "Variables": { "A": "1", "B": "own" } },
            "TracingConfig": { "Mode": "Active" },
            "DeadLetterConfig": { "TargetArn": "arn:aws:sqs:us-east-1:123456789012:q" },
            "Role": role.arn,
            "Tags": [
                { "Key": "lambda:createdBy", "Value": "SAM" },
                { "Key": "Owner", "Value": "me" },
                { "Key": "Stage", "Value": "local" },
            ],
        })
    );
    assert_eq!(
        role.properties["ManagedPolicyArns"],
        json!([
            "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
            "arn:aws:iam::aws:policy/AWSXrayWriteOnlyAccess",
            "arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole",
            "arn:aws:iam::aws:policy/service-role/AWSLambdaDynamoDBExecutionRole",
        ])
    );
    let policies: Vec<&Value> =
        role.properties["Policies"].as_array().unwrap().iter().map(|policy| &policy["PolicyName"]).collect();
    assert_eq!(policies, ["DeadLetterQueuePolicy", "FnRolePolicy1"]);
    assert_eq!(
        role.properties["Policies"][1]["PolicyDocument"]["Statement"][0]["Resource"],
        "arn:aws:sqs:us-east-1:123456789012:q"
    );
    assert_eq!(
        find(&application, "FnEventInvokeConfig").properties,
        json!({
            "FunctionName": "f",
            "Qualifier": "$LATEST",
            "MaximumRetryAttempts": 1,
            "DestinationConfig": { "OnFailure": { "Destination": "arn:aws:sqs:us-east-1:123456789012:q" } },
        })
    );
    assert_eq!(
        find(&application, "FnFromQueue").properties,
        json!({
            "EventSourceArn": "arn:aws:sqs:us-east-1:123456789012:q",
            "FunctionName": "f",
            "BatchSize": 10,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "ScalingConfig": { "MaximumConcurrency": 5 },
        })
    );
    let stream = find(&application, "FnFromTable").properties.clone();
    assert!(stream["EventSourceArn"].as_str().unwrap().contains(":table/t/stream/"));
    assert_eq!(
        stream["DestinationConfig"]["OnFailure"],
        json!({ "Destination": "arn:aws:sqs:us-east-1:123456789012:q" })
    );
    let rule = find(&application, "FnFromBus");
    assert_eq!(
        rule.properties["Targets"],
        json!([{
            "Id": "FnFromBusLambdaTarget",
            "Arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
            "RetryPolicy": { "MaximumRetryAttempts": 3 },
            "DeadLetterConfig": { "Arn": find(&application, "FnFromBusQueue").arn },
        }])
    );
    assert_eq!(rule.properties["EventPattern"], json!({ "source": ["a"] }));
    assert_eq!(rule.properties["EventBusName"], "bus");
    assert!(rule.arn.contains(":rule/bus/app-FnFromBus-"), "{}", rule.arn);
}

#[test]
fn a_policy_may_be_chosen_by_a_condition() {
    let role = |side: &str| {
        let policy = format!("Fn::If: [Never, {side}]");
        let template = FUNCTION
            .replace("Resources:", "Conditions: {Never: !Equals [a, b]}\nResources:")
            .replace("- AWSLambdaBasicExecutionRole", &format!("- {policy}"));
        let application = load_one(&template).unwrap();
        find(&application, "FnRole").properties["Policies"].as_array().unwrap().len()
    };
    let statement = "{Statement: [{Effect: Allow, Action: 'sqs:*', Resource: '*'}]}";
    assert_eq!(role(&format!("{statement}, !Ref AWS::NoValue")), 2);
    assert_eq!(role(&format!("!Ref AWS::NoValue, {statement}")), 3);
}

#[test]
fn the_role_that_sam_makes_takes_the_path_and_the_boundary() {
    let template = "
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {RolePath: /p/, PermissionsBoundary: !Ref Boundary}}
Resources:
  Boundary: {Type: AWS::IAM::ManagedPolicy, Properties: {ManagedPolicyName: b, PolicyDocument: {}}}
  Fn: {Type: AWS::Serverless::Function, Properties: {FunctionName: f}}
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      Definition: {StartAt: A, States: {A: {Type: Succeed}}}
      PermissionsBoundary: !Ref Boundary
      Events: {E: {Type: EventBridgeRule, Properties: {Pattern: {source: [a]}}}}
";
    let application = load_one(template).unwrap();
    for role in ["FnRole", "MachineRole", "MachineERole"] {
        let properties = &find(&application, role).properties;
        assert_eq!(properties["PermissionsBoundary"], "arn:aws:iam::123456789012:policy/b", "{role}");
    }
    assert!(find(&application, "FnRole").arn.contains(":role/p/app-FnRole-"));
}

#[test]
fn a_function_with_a_role_of_its_own_gets_none() {
    let template = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Role: {Type: AWS::IAM::Role, Properties: {RoleName: r}}
  Fn: {Type: AWS::Serverless::Function, Properties: {Role: !GetAtt Role.Arn}}
";
    let application = load_one(template).unwrap();
    assert_eq!(ids(&application), ["Fn", "Role"]);
    assert_eq!(find(&application, "Fn").properties["Role"], "arn:aws:iam::123456789012:role/r");
    let refusal =
        refused(&template.replace("{Role: !GetAtt Role.Arn}", "{Role: !GetAtt Role.Arn, Policies: []}"));
    assert!(refusal.contains("Fn.Properties.Policies: has no effect beside Role"), "{refusal}");
    let refusal = refused(&template.replace("{Role: !GetAtt Role.Arn}", "{Tags: !If [A, {}, {}]}"));
    assert!(refusal.contains("Fn.Properties.Tags: must be a literal mapping"), "{refusal}");
}

#[test]
fn an_unknown_sam_property_is_refused_by_file_and_path() {
    let at = |from: &str, to: &str| refused(&FUNCTION.replace(from, to));
    for (from, to, reason) in [
        (
            "CodeUri: ../",
            "CodeUrl: ../",
            "Fn.Properties.CodeUrl: is not a property of AWS::Serverless::Function",
        ),
        (
            "BatchSize: 10",
            "BatchSise: 10",
            "Fn.Properties.Events.FromQueue.Properties.BatchSise: is not a property of SQS",
        ),
        ("MaximumRetryAttempts: 1", "MaxRetries: 1", "Fn.Properties.EventInvokeConfig.MaxRetries"),
        ("Timeout: 10", "FunctionName: 10", "Globals.Function.FunctionName: is not known"),
        (
            "Type: EventBridgeRule",
            "Type: Schedule",
            "Fn.Properties.Events.FromBus.Type: events of type Schedule",
        ),
        (
            "- AWSLambdaBasicExecutionRole",
            "- SQSPollerPolicy: {QueueName: q}",
            "Fn.Properties.Policies[0]: only names, ARNs and statements",
        ),
        ("DeadLetterConfig: {Type: SQS}", "DeadLetterConfig: {Type: SNS}", "DeadLetterConfig: needs either"),
        (
            "AWS::Serverless::Function",
            "AWS::Serverless::HttpApi",
            "Fn.Type: AWS::Serverless::HttpApi is not emulated",
        ),
    ] {
        let refusal = at(from, to);
        assert!(refusal.starts_with("template.yaml: ") && refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn a_condition_of_a_sam_function_goes_to_all_that_is_generated() {
    let template = FUNCTION
        .replace("Resources:", "Conditions: {Never: !Equals [a, b]}\nResources:")
        .replace("Type: AWS::Serverless::Function", "Type: AWS::Serverless::Function\n    Condition: Never");
    assert_eq!(ids(&load_one(&template).unwrap()), ["Queue", "Table"]);
}

#[test]
fn a_generated_id_that_is_taken_is_refused() {
    let refusal = refused(&FUNCTION.replace("  Queue: {", "  FnRole: {Type: AWS::SQS::Queue}\n  Queue: {"));
    assert!(refusal.contains("SAM generates FnRole"), "{refusal}");
}

const MACHINE: &str = "
Transform: AWS::Serverless-2016-10-31
Resources:
  Queue: {Type: AWS::SQS::Queue, Properties: {QueueName: q}}
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      Name: approval
      Type: STANDARD
      DefinitionUri: approval.asl.yaml
      DefinitionSubstitutions: {QueueUrl: !Ref Queue, Seconds: 5}
      Logging: {Level: ALL}
      Tracing: {Enabled: true}
      Policies: [{Statement: [{Effect: Allow, Action: 'sqs:SendMessage', Resource: !GetAtt Queue.Arn}]}]
      Events:
        Start:
          Type: EventBridgeRule
          Properties:
            EventBusName: bus
            Pattern: {source: [a]}
            InputPath: $.detail
            DeadLetterConfig: {Arn: !GetAtt Queue.Arn}
";

#[test]
fn a_sam_state_machine_reads_its_definition_and_fills_in_the_substitutions() {
    let definition = "{StartAt: A, States: {A: {Type: Wait, Seconds: '{% ${Seconds} %}', Comment: '${QueueUrl} ${Kept} Fn::Sub', End: true}}}";
    let application =
        load_files(&[("s/template.yaml", MACHINE), ("s/approval.asl.yaml", definition)], &[]).unwrap();
    assert_eq!(ids(&application), ["Machine", "MachineRole", "MachineStart", "MachineStartRole", "Queue"]);
    let machine = find(&application, "Machine");
    let queue = "http://127.0.0.1:4566/123456789012/q";
    assert_eq!(
        machine.properties,
        json!({
            "StateMachineName": "approval",
            "StateMachineType": "STANDARD",
            "Definition": {
                "StartAt": "A",
                "States": { "A": { "Type": "Wait", "Seconds": "{% 5 %}", "Comment": format!("{queue} ${{Kept}} Fn::Sub"), "End": true } },
            },
            "DefinitionSubstitutions": { "QueueUrl": queue, "Seconds": "5" },
            "LoggingConfiguration": { "Level": "ALL" },
            "TracingConfiguration": { "Enabled": true },
            "RoleArn": find(&application, "MachineRole").arn,
            "Tags": [{ "Key": "stateMachine:createdBy", "Value": "SAM" }],
        })
    );
    assert_eq!(
        find(&application, "MachineStart").properties["Targets"],
        json!([{
            "Id": "MachineStartStepFunctionsTarget",
            "Arn": machine.arn,
            "RoleArn": find(&application, "MachineStartRole").arn,
            "InputPath": "$.detail",
            "DeadLetterConfig": { "Arn": "arn:aws:sqs:us-east-1:123456789012:q" },
        }])
    );
    let refusal = load_files(&[("s/template.yaml", MACHINE)], &[]).unwrap_err();
    assert!(
        refusal.starts_with("s/approval.asl.yaml: Machine.Properties.DefinitionUri: cannot be read"),
        "{refusal}"
    );
}

const API: &str = "
Transform: AWS::Serverless-2016-10-31
Parameters: {Stage: {Type: String, Default: local}}
Resources:
  Queue: {Type: AWS::SQS::Queue, Properties: {QueueName: q}}
  Api:
    Type: AWS::Serverless::Api
    Properties:
      Name: contracts
      StageName: !Ref Stage
      OpenApiVersion: 3.0.1
      TracingEnabled: true
      EndpointConfiguration: {Type: REGIONAL}
      Tags: {Owner: me}
      MethodSettings: [{HttpMethod: '*', ResourcePath: '/*', ThrottlingRateLimit: 10}]
      DefinitionBody:
        Fn::Transform: {Name: AWS::Include, Parameters: {Location: api.yaml}}
  Url: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: !Sub 'x https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}/${Api.Stage}'}}
Outputs:
  ApiUrl: {Value: !Sub 'https://${Api}.execute-api.${AWS::Region}.${AWS::URLSuffix}/${Stage}/contracts'}
  Other: {Value: !Sub 'https://abc.execute-api.${AWS::Region}.${AWS::URLSuffix}/${Stage}'}
  Stage: {Value: !Ref Api.Stage}
  Root: {Value: !GetAtt Api.RootResourceId}
";

#[test]
fn a_sam_api_includes_its_open_api_document_and_gets_a_deployment_and_a_stage() {
    let body = "
openapi: 3.0.1
paths: {/x: {post: {x-amazon-apigateway-integration: {uri: {Fn::Sub: 'arn:${AWS::Region}:${Queue.QueueName}'}}}}}
";
    let application = load_files(&[("s/template.yaml", API), ("s/api.yaml", body)], &[]).unwrap();
    let api = find(&application, "Api");
    assert_eq!(api.physical_id.len(), 10);
    assert_eq!(
        api.properties,
        json!({
            "Name": "contracts",
            "Body": {
                "openapi": "3.0.1",
                "paths": { "/x": { "post": { "x-amazon-apigateway-integration": { "uri": "arn:us-east-1:q" } } } },
            },
            "EndpointConfiguration": { "Types": ["REGIONAL"] },
        })
    );
    let stage = find(&application, "ApiStage");
    let deployment =
        application.stacks[0].resources.iter().find(|r| r.kind == "AWS::ApiGateway::Deployment").unwrap();
    assert_eq!(
        stage.properties,
        json!({
            "RestApiId": api.physical_id,
            "DeploymentId": deployment.physical_id,
            "StageName": "local",
            "TracingEnabled": true,
            "MethodSettings": [{ "HttpMethod": "*", "ResourcePath": "/*", "ThrottlingRateLimit": 10 }],
            "Tags": [{ "Key": "Owner", "Value": "me" }],
        })
    );
    assert_eq!(deployment.properties, json!({ "RestApiId": api.physical_id }));
    assert_eq!(output(&application, "Stage").as_deref(), Some("local"));

    let url = format!("http://127.0.0.1:3000/_aws/execute-api/{}/local", api.physical_id);
    assert_eq!(output(&application, "ApiUrl").as_deref(), Some(format!("{url}/contracts").as_str()));
    assert_eq!(find(&application, "Url").properties["Value"], format!("x {url}"));
    assert_eq!(
        output(&application, "Other").as_deref(),
        Some("https://abc.execute-api.us-east-1.amazonaws.com/local")
    );
}

#[test]
fn a_fault_in_an_included_file_is_refused_under_that_files_name() {
    let loaded = |body: &str| load_files(&[("s/template.yaml", API), ("s/api.yaml", body)], &[]).unwrap_err();
    let refusal = loaded("paths: {/x: {Fn::Sub: '${Nobody}'}}");
    assert!(refusal.starts_with("s/api.yaml: Api.Properties.Body."), "{refusal}");
    assert!(refusal.contains("Api.Properties.Body.paths./x.Fn::Sub.${Nobody}: there is no"), "{refusal}");
    assert!(loaded("paths: !Ref Stage").contains("short forms are not read"));
    let refusal = load_files(&[("s/template.yaml", API)], &[]).unwrap_err();
    assert!(refusal.starts_with("s/api.yaml: ") && refusal.contains("cannot be read"), "{refusal}");
}

#[test]
fn a_queue_has_the_address_that_sqs_tells_of_it_wherever_the_template_names_it() {
    let application = load_one(
        "
Resources:
  Queue: { Type: AWS::SQS::Queue, Properties: { QueueName: q } }
Outputs:
  Url: { Value: !Ref Queue }
  Arn: { Value: !GetAtt Queue.Arn }
",
    )
    .unwrap();
    // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-message-identifiers.html
    let url = "http://127.0.0.1:4566/123456789012/q";
    assert_eq!(output(&application, "Url").unwrap(), url);
    assert_eq!(find(&application, "Queue").physical_id, url);
    assert_eq!(output(&application, "Arn").unwrap(), "arn:aws:sqs:us-east-1:123456789012:q");
}

#[test]
fn tags_go_to_what_sam_generates_where_the_resource_propagates_them() {
    let tags_of = |text: &str, id: &str| {
        let application = load_one(text).unwrap();
        let resource =
            application.root().unwrap().resources.iter().find(|resource| resource.logical_id == id);
        resource.unwrap().properties.get("Tags").cloned()
    };
    let own = json!([{ "Key": "Owner", "Value": "me" }, { "Key": "Stage", "Value": "local" }]);
    let propagating =
        FUNCTION.replace("    Tracing: Active\n", "    Tracing: Active\n    PropagateTags: true\n");
    for id in ["Fn", "FnRole"] {
        assert_eq!(tags_of(&propagating, id), Some(own.clone()), "{id}");
    }
    for id in ["FnFromQueue", "FnFromTable", "FnFromBus"] {
        assert_eq!(tags_of(&propagating, id), None, "SAM does not tag {id}");
    }
}

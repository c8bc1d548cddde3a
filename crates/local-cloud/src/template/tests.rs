//! Whole templates, from YAML to what the services are given.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// Loads the files (name, content), the first one as root of the stack `app`.
fn load_files(files: &[(&str, &str)], parameters: &[(&str, &str)]) -> Result<Application, String> {
    let project = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = project.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let parameters: BTreeMap<String, String> =
        parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let settings = Settings::for_tests();
    load(project.path(), files[0].0, "app", &parameters, &settings, "http://127.0.0.1:3000")
        .map_err(|refusal| refusal.to_string())
}

fn load_one(template: &str) -> Result<Application, String> {
    load_files(&[("template.yaml", template)], &[])
}

fn refused(template: &str) -> String {
    load_one(template).expect_err("must be refused")
}

fn find<'a>(application: &'a Application, logical_id: &str) -> &'a Resource {
    let mut resources = application.stacks.iter().flat_map(|stack| &stack.resources);
    resources.find(|resource| resource.logical_id == logical_id).unwrap_or_else(|| panic!("no {logical_id}"))
}

fn ids(application: &Application) -> Vec<&str> {
    let mut ids: Vec<&str> =
        application.stacks[0].resources.iter().map(|resource| resource.logical_id.as_str()).collect();
    ids.sort_unstable();
    ids
}

/// Evaluates `value` (YAML, flow style) as a parameter's value in a template that has some
/// of everything to refer to.
fn evaluated(value: &str) -> Result<Value, String> {
    let template = format!(
        "
Parameters:
  Stage: {{Type: String, Default: local}}
  Number: {{Type: Number, Default: 30}}
  List: {{Type: CommaDelimitedList, Default: 'a, b'}}
Mappings:
  Limits: {{local: {{Rate: 5}}, prod: {{Rate: 50}}}}
Conditions:
  IsLocal: !Equals [!Ref Stage, local]
  IsProd: !Equals [!Ref Stage, prod]
  Both: !And [!Condition IsLocal, !Condition IsProd]
  Either: !Or [Condition: IsLocal, Condition: IsProd]
  NotProd: !Not [!Condition IsProd]
Resources:
  Queue: {{Type: AWS::SQS::Queue, Properties: {{QueueName: !Sub 'q-${{Stage}}'}}}}
  Gone: {{Type: AWS::SQS::Queue, Condition: IsProd}}
  It: {{Type: AWS::SSM::Parameter, Properties: {{Name: it, Type: String, Value: {value}}}}}
"
    );
    load_one(&template).map(|application| find(&application, "It").properties["Value"].clone())
}

#[test]
fn ref_gives_parameters_pseudo_parameters_and_physical_ids() {
    assert_eq!(evaluated("!Ref Stage"), Ok(json!("local")));
    assert_eq!(evaluated("{Ref: Number}"), Ok(json!(30)));
    assert_eq!(evaluated("!Ref List"), Ok(json!(["a", "b"])));
    assert_eq!(evaluated("!Ref AWS::AccountId"), Ok(json!("123456789012")));
    assert_eq!(evaluated("!Ref AWS::StackName"), Ok(json!("app")));
    assert_eq!(evaluated("!Ref AWS::Partition"), Ok(json!("aws")));
    assert_eq!(
        evaluated("!Ref Queue"),
        Ok(json!("https://sqs.us-east-1.amazonaws.com/123456789012/q-local"))
    );
    assert_eq!(evaluated("[!Ref AWS::NoValue, x]"), Ok(json!(["x"])));
    assert_eq!(evaluated("{a: !Ref AWS::NoValue, b: 1}"), Ok(json!({ "b": 1 })));
    let id = evaluated("!Ref AWS::StackId").unwrap();
    assert!(id.as_str().unwrap().starts_with("arn:aws:cloudformation:us-east-1:123456789012:stack/app/"));
}

#[test]
fn get_att_gives_attributes_in_all_its_forms() {
    for form in
        ["!GetAtt Queue.Arn", "!GetAtt [Queue, Arn]", "{Fn::GetAtt: [Queue, Arn]}", "{Fn::GetAtt: Queue.Arn}"]
    {
        assert_eq!(evaluated(form), Ok(json!("arn:aws:sqs:us-east-1:123456789012:q-local")), "{form}");
    }
}

#[test]
fn sub_fills_in_references_attributes_and_its_own_variables_and_keeps_literals() {
    assert_eq!(
        evaluated("!Sub '${Stage} ${Number} ${AWS::Region} ${Queue.QueueName} ${!Kept} $x {y}'"),
        Ok(json!("local 30 us-east-1 q-local ${Kept} $x {y}"))
    );
    assert_eq!(
        evaluated("!Sub ['${A}-${Stage}-${A.B}', {A: !GetAtt Queue.QueueName, A.B: 1}]"),
        Ok(json!("q-local-local-1"))
    );
    assert!(evaluated("!Sub '${List}'").unwrap_err().contains("not a text"));
    assert!(evaluated("!Sub '${Stage'").unwrap_err().contains("not closed"));
}

#[test]
fn join_split_and_select_work_on_lists() {
    assert_eq!(evaluated("!Join ['/', [a, !Ref Number, !Ref Stage]]"), Ok(json!("a/30/local")));
    assert_eq!(evaluated("!Join [',', !Ref List]"), Ok(json!("a,b")));
    assert_eq!(evaluated("!Split ['-', a-b-c]"), Ok(json!(["a", "b", "c"])));
    assert_eq!(evaluated("!Select [1, !Split ['-', a-b-c]]"), Ok(json!("b")));
    assert_eq!(evaluated("!Select ['0', !Ref List]"), Ok(json!("a")));
    assert!(evaluated("!Select [2, !Ref List]").unwrap_err().contains("no item 2 in a list of 2"));
}

#[test]
fn conditions_choose_values() {
    for (condition, value) in [("IsLocal", 1), ("IsProd", 2), ("Both", 2), ("Either", 1), ("NotProd", 1)] {
        assert_eq!(evaluated(&format!("!If [{condition}, 1, 2]")), Ok(json!(value)), "{condition}");
    }
    assert!(evaluated("!If [Nowhere, 1, 2]").unwrap_err().contains("there is no condition Nowhere"));
}

#[test]
fn find_in_map_reads_two_levels() {
    assert_eq!(evaluated("!FindInMap [Limits, !Ref Stage, Rate]"), Ok(json!(5)));
    let refusal = evaluated("!FindInMap [Limits, dev, Rate]").unwrap_err();
    assert!(refusal.contains("Mappings.Limits has no dev.Rate"), "{refusal}");
}

#[test]
fn every_refusal_names_file_and_path() {
    for (value, reason) in [
        ("!Ref Nobody", "It.Properties.Value.Ref: there is no parameter or resource Nobody"),
        (
            "!Sub '${Nobody.Arn}'",
            "It.Properties.Value.Fn::Sub.${Nobody.Arn}: there is no parameter or resource",
        ),
        ("!GetAtt Queue.Colour", "It.Properties.Value.Fn::GetAtt: AWS::SQS::Queue has no attribute Colour"),
        ("!Ref Gone", "Gone is not created: its condition is false"),
        ("!If [IsLocal, 1, !Ref Nobody]", "It.Properties.Value.Fn::If[2].Ref: there is no parameter"),
        (
            "!If [IsLocal, 1, !Sub 'a-${Nobody.Arn}']",
            "It.Properties.Value.Fn::If[2].Fn::Sub.${Nobody.Arn}: there is no",
        ),
        ("!Base64 x", "It.Properties.Value.Fn::Base64: this function is not known or not emulated"),
        ("!ImportValue x", "Fn::ImportValue: this function is not known or not emulated"),
        ("{Fn::Sub: x, y: 1}", "must be the only key"),
        ("'{{resolve:ssm:/x}}'", "dynamic references"),
        ("!Equals [a, b]", "may stand in Conditions only"),
    ] {
        let refusal = evaluated(value).unwrap_err();
        assert!(refusal.starts_with("template.yaml: ") && refusal.contains(reason), "{value}: {refusal}");
    }
}

#[test]
fn what_a_template_must_not_hold_is_refused() {
    const QUEUE: &str = "Resources: {Queue: {Type: AWS::SQS::Queue}}";
    for (template, reason) in [
        (format!("Rules: {{}}\n{QUEUE}"), "template.yaml: Rules: this section is not known"),
        (format!("Transform: AWS::LanguageExtensions\n{QUEUE}"), "template.yaml: Transform: "),
        (format!("Globals: {{Function: {{Timeout: 3}}}}\n{QUEUE}"), "Globals: needs Transform"),
        (format!("AWSTemplateFormatVersion: 2012-10-17\n{QUEUE}"), "AWSTemplateFormatVersion: must be"),
        (
            "Resources: {V: {Type: AWS::EC2::VPC}}".into(),
            "V.Type: AWS::EC2::VPC is not known or not emulated",
        ),
        (
            "Resources: {Q: {Type: AWS::SQS::Queue, CreationPolicy: {}}}".into(),
            "Q.CreationPolicy: this resource attribute",
        ),
        (
            "Resources: {Q: {Type: AWS::SQS::Queue, DependsOn: [P]}}".into(),
            "Q.DependsOn[0]: there is no resource P",
        ),
        (
            "Resources: {Q: {Type: AWS::SQS::Queue, Condition: C}}".into(),
            "Q.Condition: there is no condition C",
        ),
        (
            "Resources: {Q: {Type: AWS::SQS::Queue, DeletionPolicy: !If [A, Retain, Delete]}}".into(),
            "Q.DeletionPolicy: must be a literal",
        ),
        ("Resources: {q-1: {Type: AWS::SQS::Queue}}".into(), "q-1: a logical id has only letters and digits"),
        (format!("{QUEUE}\nOutputs: {{A: {{Value: a, Colour: b}}}}"), "Outputs.A.Colour: is not known"),
        (
            format!("{QUEUE}\nConditions: {{C: !Equals [!Ref Queue, a]}}"),
            "a condition can name parameters only",
        ),
        (format!("{QUEUE}\nX: [\n"), "the whole file: is not YAML"),
        ("Resources: {}".into(), "Resources: at least one"),
    ] {
        let refusal = refused(&template);
        assert!(refusal.contains(reason), "{template}: {refusal}");
    }
}

#[test]
fn circles_are_refused_by_name() {
    let refusal = refused(
        "
Resources:
  A: {Type: AWS::SQS::Queue, Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt B.Arn}}}
  B: {Type: AWS::SQS::Queue, DependsOn: A}
",
    );
    assert!(refusal.contains("circular dependency: A -> B -> A"), "{refusal}");
    let refusal = refused(
        "
Resources:
  A: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub '${B.QueueName}-dlq'}}
  B: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub '${A.QueueName}-dlq'}}
",
    );
    assert!(refusal.contains("circular dependency"), "{refusal}");
    let refusal = refused(
        "
Conditions: {A: !Not [!Condition B], B: !Not [!Condition A]}
Resources: {Q: {Type: AWS::SQS::Queue}}
",
    );
    assert!(refusal.contains("circular dependency: A depends on itself"), "{refusal}");
    let nested = "
Transform: AWS::Serverless-2016-10-31
Resources: {Again: {Type: AWS::Serverless::Application, Properties: {Location: template.yaml}}}
";
    assert!(refused(nested).contains("nests itself"));
}

#[test]
fn resources_come_after_what_they_depend_on() {
    let application = load_one(
        "
Resources:
  A: {Type: AWS::SQS::Queue, Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Z.Arn}}}
  M: {Type: AWS::SQS::Queue, DependsOn: [A]}
  B: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: !Sub '${M.Arn}'}}
  Z: {Type: AWS::SQS::Queue}
",
    )
    .unwrap();
    let order: Vec<&str> =
        application.stacks[0].resources.iter().map(|resource| resource.logical_id.as_str()).collect();
    assert_eq!(order, ["Z", "A", "M", "B"]);
}

#[test]
fn a_resource_and_an_output_whose_condition_is_false_are_not_there() {
    let application = load_one(
        "
Parameters: {Stage: {Type: String, Default: local}}
Conditions: {IsProd: !Equals [!Ref Stage, prod]}
Resources:
  A: {Type: AWS::SQS::Queue}
  B: {Type: AWS::SQS::Queue, Condition: IsProd}
  C: {Type: AWS::SQS::Queue, DependsOn: B}
Outputs:
  A: {Value: !GetAtt A.QueueName, Description: the queue, Export: {Name: !Sub '${AWS::StackName}-a'}}
  B: {Value: !Ref B, Condition: IsProd}
",
    )
    .unwrap();
    assert_eq!(ids(&application), ["A", "C"]);
    let outputs = &application.stacks[0].outputs;
    assert_eq!(outputs.len(), 1);
    assert_eq!(outputs[0].description.as_deref(), Some("the queue"));
    assert_eq!(outputs[0].export.as_deref(), Some("app-a"));
    assert!(outputs[0].value.starts_with("app-A-"), "{}", outputs[0].value);
}

#[test]
fn a_made_up_name_stands_in_the_properties_and_is_the_same_at_every_start() {
    let template = "Resources: {Things: {Type: AWS::DynamoDB::Table}}";
    let first = load_one(template).unwrap();
    let name = find(&first, "Things").properties["TableName"].clone();
    assert_eq!(name.as_str(), Some(find(&first, "Things").physical_id.as_str()));
    assert_eq!(name, find(&load_one(template).unwrap(), "Things").properties["TableName"]);
}

#[test]
fn a_stream_arn_exists_only_where_a_stream_does() {
    let refusal = refused(
        "
Resources:
  T: {Type: AWS::DynamoDB::Table, Properties: {TableName: t}}
  P: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: !GetAtt T.StreamArn}}
",
    );
    assert!(refusal.contains("T has no stream"), "{refusal}");
}

#[test]
fn two_resources_of_one_name_are_refused() {
    let refusal = refused(
        "
Resources:
  A: {Type: AWS::SQS::Queue, Properties: {QueueName: q}}
  B: {Type: AWS::SQS::Queue, Properties: {QueueName: q}}
",
    );
    assert!(
        refusal.contains("B.Properties: arn:aws:sqs:us-east-1:123456789012:q already exists: A"),
        "{refusal}"
    );
}

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
    let queue = "https://sqs.us-east-1.amazonaws.com/123456789012/q";
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
    assert_eq!(application.output("Stage"), Some("local"));

    let url = format!("http://127.0.0.1:3000/_aws/execute-api/{}/local", api.physical_id);
    assert_eq!(application.output("ApiUrl"), Some(format!("{url}/contracts").as_str()));
    assert_eq!(find(&application, "Url").properties["Value"], format!("x {url}"));
    assert_eq!(application.output("Other"), Some("https://abc.execute-api.us-east-1.amazonaws.com/local"));
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

const ROOT: &str = "
AWSTemplateFormatVersion: 2010-09-09
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String, AllowedValues: [local, prod], Default: local}
  Owner: {Type: String, MinLength: 1}
Resources:
  Images: {Type: AWS::S3::Bucket, Properties: {BucketName: !Sub 'images-${Stage}'}}
  Child:
    Type: AWS::Serverless::Application
    Properties:
      Location: child/template.yaml
      Parameters: {Bucket: !Ref Images, Numbers: !Split [',', '1,2']}
      Tags: {Owner: !Ref Owner}
  After: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: !GetAtt Child.Outputs.QueueArn}}
Outputs:
  QueueArn: {Value: !GetAtt Child.Outputs.QueueArn}
";

const CHILD: &str = "
Description: the child
Parameters:
  Bucket: {Type: String}
  Numbers: {Type: List<Number>}
  Secret: {Type: String, NoEcho: true, Default: x}
Resources:
  Queue: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub 'q-${Bucket}', DelaySeconds: !Select [1, !Ref Numbers]}}
Outputs:
  QueueArn: {Value: !GetAtt Queue.Arn, Export: {Name: queue}}
";

#[test]
fn a_nested_application_is_a_stack_of_its_own() {
    let files = [("template.yaml", ROOT), ("child/template.yaml", CHILD)];
    let application = load_files(&files, &[("Owner", "me")]).unwrap();
    let [root, child] = application.stacks.as_slice() else { panic!("two stacks") };
    assert_eq!(root.name, "app");
    assert!(
        child.name.starts_with("app-Child-") && child.name.len() == "app-Child-".len() + 12,
        "{}",
        child.name
    );
    assert_eq!(find(&application, "Child").physical_id, child.id);
    assert_eq!((child.parent.as_ref(), child.root.as_ref()), (Some(&root.id), Some(&root.id)));
    assert_eq!(child.parameters["Bucket"], "images-local");
    assert_eq!(child.parameters["Numbers"], "1,2");
    assert_eq!(child.parameters["Secret"], "****");
    assert_eq!(find(&application, "Queue").properties["DelaySeconds"], 2);
    assert_eq!(find(&application, "Queue").file, "child/template.yaml");
    let arn = "arn:aws:sqs:us-east-1:123456789012:q-images-local";
    assert_eq!(application.output("QueueArn"), Some(arn));
    let order: Vec<&str> = root.resources.iter().map(|resource| resource.logical_id.as_str()).collect();
    assert_eq!(order, ["Images", "Child", "After"]);
}

#[test]
fn a_fault_in_a_nested_template_names_its_file() {
    let loaded = |root: &str, child: &str| {
        load_files(&[("template.yaml", root), ("child/template.yaml", child)], &[("Owner", "me")])
            .unwrap_err()
    };
    let refusal = loaded(ROOT, &CHILD.replace("Bucket: {Type: String}", "Bucket: {Type: Number}"));
    assert!(refusal.starts_with("child/template.yaml: Parameters.Bucket: "), "{refusal}");
    let refusal = loaded(&ROOT.replace("Bucket: !Ref Images", "Bocket: a"), CHILD);
    assert!(refusal.contains("Parameters.Bocket: a value is given"), "{refusal}");
    let refusal = loaded(&ROOT.replace("Outputs.QueueArn}}", "Outputs.Nothing}}"), CHILD);
    assert!(refusal.contains("child/template.yaml has no output Nothing"), "{refusal}");
    let refusal = loaded(&ROOT.replace("Location: child/", "Location: nowhere/"), CHILD);
    assert!(
        refusal.starts_with("nowhere/template.yaml: ") && refusal.contains("cannot be read"),
        "{refusal}"
    );
    let refusal = load_files(&[("template.yaml", ROOT), ("child/template.yaml", CHILD)], &[]).unwrap_err();
    assert!(refusal.contains("Parameters.Owner: has no default"), "{refusal}");
}

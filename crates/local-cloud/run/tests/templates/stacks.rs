//! Sections, attributes, order, names, and nested stacks.

use super::*;

#[test]
fn what_a_template_must_not_hold_is_refused() {
    const QUEUE: &str = "Resources: {Queue: {Type: AWS::SQS::Queue}}";
    for (template, reason) in [
        (format!("Hooks: {{}}\n{QUEUE}"), "template.yaml: Hooks: this section is not known"),
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
    assert_eq!(find(&application, "Queue").file, "child/template.yaml".into());
    let arn = "arn:aws:sqs:us-east-1:123456789012:q-images-local";
    assert_eq!(output(&application, "QueueArn").as_deref(), Some(arn));
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

//! Intrinsic functions, references and conditions.

use serde_json::{Value, json};

use super::*;

/// Evaluates `value` (YAML, flow style) as a parameter's value in a template with one of each kind to refer to.
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
fn a_rule_refuses_a_stack_in_its_own_words() {
    let with = |regions: &str| {
        format!(
            "
Rules:
  InRegion:
    Assertions:
      - Assert: {{Fn::Contains: [[{regions}], !Ref AWS::Region]}}
        AssertDescription: Not here.
Resources: {{Q: {{Type: AWS::SQS::Queue}}}}
"
        )
    };
    let root = "Resources: {N: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: n.yaml}}}";
    let nested = |inner: &str| load_files(&[("template.yaml", root), ("n.yaml", inner)], &[]);
    for good in [load_one(&with("eu-west-1, us-east-1")), nested(&with("us-east-1"))] {
        good.unwrap();
    }
    assert_eq!(refused(&with("eu-west-1")), "template.yaml: Rules.InRegion.Assertions[0]: Not here.");
    assert_eq!(nested(&with("x")).unwrap_err(), "n.yaml: Rules.InRegion.Assertions[0]: Not here.");
    for (from, to, reason) in [
        ("Fn::Contains", "Fn::EachMemberIn", "Assertions[0].Assert: must be Fn::Contains"),
        ("Assertions:", "RuleCondition: x\n    Assertions:", "RuleCondition: is not emulated in a rule"),
        ("!Ref AWS::Region", "!Ref Q", "Q"),
    ] {
        let refusal = refused(&with("us-east-1").replace(from, to));
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn ref_gives_parameters_pseudo_parameters_and_physical_ids() {
    assert_eq!(evaluated("!Ref Stage"), Ok(json!("local")));
    assert_eq!(evaluated("{Ref: Number}"), Ok(json!(30)));
    assert_eq!(evaluated("!Ref List"), Ok(json!(["a", "b"])));
    assert_eq!(evaluated("!Ref AWS::AccountId"), Ok(json!("123456789012")));
    assert_eq!(evaluated("!Ref AWS::StackName"), Ok(json!("app")));
    assert_eq!(evaluated("!Ref AWS::Partition"), Ok(json!("aws")));
    assert_eq!(evaluated("!Ref Queue"), Ok(json!("http://127.0.0.1:4566/123456789012/q-local")));
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

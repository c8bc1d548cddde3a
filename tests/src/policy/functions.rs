//! Functions: their runtime, time-out and traces.

use super::deployment::{FUNCTION, MACHINE, is_true, number, texts};
use super::{Deployment, Fault, Faults, Mutation, Rule, unless};
use crate::templates::{CONTRACTS, PROPERTIES, WEB};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "runtime",
        holds: "Functions: provided.al2023",
        check: runtime,
        notices: &[Mutation::add(WEB, "SearchFunction", "      Runtime: provided.al2")],
    },
    Rule {
        name: "architecture",
        holds: "Functions: architecture a parameter (arm64, x86_64)",
        check: architecture,
        notices: &[
            Mutation::add(CONTRACTS, "QueryFunction", "      Architectures: [arm64]"),
            Mutation::swap(WEB, "Architecture", "[arm64, x86_64]", "[arm64]")
                .naming("Parameters.Architecture")
                .on_prod(),
        ],
    },
    Rule {
        name: "function-timeout",
        holds: "every function has a time-out of its own choice",
        check: timeout,
        notices: &[Mutation::drop(WEB, "SearchFunction", "Timeout")],
    },
    Rule {
        name: "tracing",
        holds: "X-Ray on everywhere: APIs, functions, workflows",
        check: tracing,
        notices: &[
            Mutation::swap(CONTRACTS, "Api", "TracingEnabled: true", "TracingEnabled: false")
                .naming("ApiStage"),
            Mutation::add(WEB, "SearchFunction", "      Tracing: PassThrough"),
            Mutation::drop(PROPERTIES, "ApprovalStateMachine", "Tracing"),
        ],
    },
    Rule {
        name: "regions",
        holds: "a template whose workflow asks Comprehend and Rekognition refuses a region without them",
        check: regions,
        notices: &[
            Mutation::swap(PROPERTIES, "", "              - eu-west-1\n", "              - eu-west-3\n")
                .naming("ApprovalStateMachine"),
            Mutation::swap(PROPERTIES, "", "- !Ref AWS::Region", "- us-east-1")
                .naming("ApprovalStateMachine"),
        ],
    },
];

/// The regions of the partition `aws` that have both services, as botocore 1.43 lists their endpoints:
/// <https://docs.aws.amazon.com/general/latest/gr/comprehend.html>,
/// <https://docs.aws.amazon.com/general/latest/gr/rekognition.html>. GovCloud (US-West) has both, and lacks
/// what else the templates need: "EventBridge Pipes is not available",
/// <https://docs.aws.amazon.com/govcloud-us/latest/UserGuide/govcloud-eventbridge.html>. The isolated
/// partitions are not looked at.
const REGIONS: [&str; 12] = [
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-west-1",
    "eu-west-2",
    "us-east-1",
    "us-east-2",
    "us-west-2",
];

fn regions(deployment: &Deployment<'_>) -> Faults {
    let expected = serde_json::json!([REGIONS, { "Ref": "AWS::Region" }]);
    deployment.each(MACHINE, |machine| {
        let rules = |file: &str| deployment.template(file)["Rules"].clone();
        let refuses = |file: &str| {
            let rules = rules(file);
            let mut rules = rules.as_object().into_iter().flat_map(|rules| rules.values());
            rules.any(|rule| rule["Assertions"][0]["Assert"]["Fn::Contains"] == expected)
        };
        // Both its own template and the root must refuse: CloudFormation creates nested stacks last.
        let root = deployment.application.root().map_or("", |root| root.file.as_str());
        unless(
            refuses(machine.file.template()) && refuses(root),
            "can be deployed in a region without Comprehend or Rekognition",
        )
    })
}

fn runtime(deployment: &Deployment<'_>) -> Faults {
    deployment.each(FUNCTION, |function| {
        unless(function.properties["Runtime"] == "provided.al2023", "does not run on provided.al2023")
    })
}

/// The rules run for both architectures, so that a constant is found.
fn architecture(deployment: &Deployment<'_>) -> Faults {
    let mut faults = Faults::new();
    for stack in deployment.stacks() {
        let chosen = stack.parameters.get("Architecture");
        let functions = stack.resources.iter().filter(|resource| resource.kind == FUNCTION);
        for function in functions {
            let given: Vec<&str> = texts(&function.properties["Architectures"]).collect();
            if chosen.is_none_or(|chosen| given != [chosen]) {
                faults.push(Fault::of(function, "does not run on the architecture that the parameter says"));
            }
        }
        let parameter = &deployment.template(&stack.file)["Parameters"]["Architecture"];
        if chosen.is_some() && parameter["AllowedValues"] != serde_json::json!(["arm64", "x86_64"]) {
            let (file, resource) = (stack.file.clone(), "Parameters.Architecture".to_owned());
            faults.push(Fault { file, resource, wrong: "does not allow both architectures".to_owned() });
        }
    }
    faults
}

fn timeout(deployment: &Deployment<'_>) -> Faults {
    deployment.each(FUNCTION, |function| {
        unless(number(&function.properties["Timeout"]).is_some(), "has no timeout")
    })
}

fn tracing(deployment: &Deployment<'_>) -> Faults {
    let wrong = "is not traced";
    let mut faults = deployment
        .each(FUNCTION, |function| unless(function.properties["TracingConfig"]["Mode"] == "Active", wrong));
    faults.extend(deployment.each(MACHINE, |machine| {
        unless(is_true(&machine.properties["TracingConfiguration"]["Enabled"]), wrong)
    }));
    faults.extend(
        deployment.each("AWS::ApiGateway::Stage", |stage| {
            unless(is_true(&stage.properties["TracingEnabled"]), wrong)
        }),
    );
    faults
}

//! Functions: what they run on, for how long, and that their traces are kept.

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
];

fn runtime(deployment: &Deployment<'_>) -> Faults {
    deployment.each(FUNCTION, |function| {
        unless(function.properties["Runtime"] == "provided.al2023", "does not run on provided.al2023")
    })
}

/// A constant is seen, since the rules are run for both.
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
            faults.push(Fault { file, resource, wrong: "does not leave both to choose".to_owned() });
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

//! Settings of a whole account and region belong to `account.yaml` and to no service.

use super::{Deployment, Fault, Faults, Mutation, Rule};

pub(super) const RULES: &[Rule] = &[Rule {
    name: "account-settings",
    holds: "no template of the application sets what the whole account shares",
    check: settings,
    notices: &[Mutation::add(
        "contracts-service/template.yaml",
        "SchemaRegistry",
        "  Setting:\n    Type: AWS::ApiGateway::Account",
    )
    .naming("Setting")],
}];

/// Types of which an account or region has only one, or which apply to everything in it.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-template-resource-type-ref.html>
const OF_THE_ACCOUNT: [&str; 8] = [
    "AWS::ApiGateway::Account",
    "AWS::CloudTrail::Trail",
    "AWS::Config::ConfigurationRecorder",
    "AWS::GuardDuty::Detector",
    "AWS::IAM::OIDCProvider",
    "AWS::Logs::AccountPolicy",
    "AWS::SecurityHub::Hub",
    "AWS::XRay::ResourcePolicy",
];

fn settings(deployment: &Deployment<'_>) -> Faults {
    let is_setting = |kind: &str| OF_THE_ACCOUNT.contains(&kind);
    let of_application = deployment.resources().filter(|resource| resource.file.template() != "account.yaml");
    of_application
        .filter(|resource| is_setting(&resource.kind))
        .map(|resource| Fault::of(resource, format!("is a {}, which belongs to the account", resource.kind)))
        .collect()
}

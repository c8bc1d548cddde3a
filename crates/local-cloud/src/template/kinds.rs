//! The CloudFormation types that templates may use: which property names each, what `Ref`
//! gives and which attributes `Fn::GetAtt` knows. A type that is not in the table is
//! refused. Sources: "Return values" of each type's page in the CloudFormation template
//! reference, and the types' registry schemas.

use std::collections::BTreeMap;

use crate::cloud::Settings;
use crate::random::stable_uuid;

/// One row. Texts hold placeholders: `{name}`, `{region}`, `{account}`, `{uuid}` and `{id}`
/// (ten characters, as API Gateway makes them), `{ref}`, and `{:Property}` for another
/// property of the resource.
#[derive(Debug)]
pub(crate) struct Kind {
    pub name: &'static str,
    /// The property that names it; absent, CloudFormation makes a name.
    pub named_by: Option<&'static str>,
    /// The longest name, for the names that CloudFormation makes.
    longest: usize,
    reference: &'static str,
    /// The ARN, empty for types without one.
    arn: &'static str,
    attributes: &'static [(&'static str, &'static str)],
}

const fn kind(
    name: &'static str,
    named_by: Option<&'static str>,
    longest: usize,
    reference: &'static str,
    arn: &'static str,
    attributes: &'static [(&'static str, &'static str)],
) -> Kind {
    Kind { name, named_by, longest, reference, arn, attributes }
}

/// The ARN as attribute `Arn`: what most types have.
const ARN: (&str, &str) = ("Arn", "{arn}");

/// All types, in alphabetical order.
#[rustfmt::skip]
pub(crate) const KINDS: &[Kind] = &[
    kind("AWS::ApiGateway::Account", None, 128, "{name}", "", &[("Id", "{ref}")]),
    kind("AWS::ApiGateway::Deployment", None, 128, "{id}", "", &[("DeploymentId", "{ref}")]),
    kind("AWS::ApiGateway::RestApi", None, 128, "{id}", "arn:aws:apigateway:{region}::/restapis/{id}",
        &[("RestApiId", "{ref}"), ("RootResourceId", "{root}")]),
    kind("AWS::ApiGateway::Stage", Some("StageName"), 128, "{name}", "", &[]),
    kind("AWS::CloudFormation::Stack", None, 128, "arn:aws:cloudformation:{region}:{account}:stack/{name}/{uuid}", "", &[]),
    kind("AWS::CloudWatch::Alarm", Some("AlarmName"), 255, "{name}", "arn:aws:cloudwatch:{region}:{account}:alarm:{name}", &[ARN]),
    kind("AWS::CloudWatch::Dashboard", Some("DashboardName"), 255, "{name}", "arn:aws:cloudwatch::{account}:dashboard/{name}", &[]),
    kind("AWS::DynamoDB::Table", Some("TableName"), 255, "{name}", "arn:aws:dynamodb:{region}:{account}:table/{name}", &[ARN, ("StreamArn", STREAM_ARN)]),
    kind("AWS::EventSchemas::Registry", Some("RegistryName"), 64, "{arn}", "arn:aws:schemas:{region}:{account}:registry/{name}",
        &[("RegistryArn", "{arn}"), ("RegistryName", "{name}")]),
    kind("AWS::EventSchemas::Schema", Some("SchemaName"), 385, "{arn}", "arn:aws:schemas:{region}:{account}:schema/{:RegistryName}/{name}",
        &[("SchemaArn", "{arn}"), ("SchemaName", "{name}"), ("SchemaVersion", "1")]),
    kind("AWS::Events::Archive", Some("ArchiveName"), 48, "{name}", "arn:aws:events:{region}:{account}:archive/{name}", &[ARN]),
    kind("AWS::Events::EventBus", Some("Name"), 256, "{name}", "arn:aws:events:{region}:{account}:event-bus/{name}", &[ARN, ("Name", "{name}")]),
    kind("AWS::Events::EventBusPolicy", None, 64, "{name}", "", &[]),
    // Ref gives the rule's name; the name of a bus of one's own stands in the ARN.
    kind("AWS::Events::Rule", Some("Name"), 64, "{name}", "arn:aws:events:{region}:{account}:rule/{bus}{name}", &[ARN]),
    kind("AWS::IAM::ManagedPolicy", Some("ManagedPolicyName"), 128, "{arn}", "arn:aws:iam::{account}:policy{path}{name}", &[("PolicyArn", "{arn}")]),
    kind("AWS::IAM::OIDCProvider", None, 128, "{arn}", "arn:aws:iam::{account}:oidc-provider/{name}", &[ARN]),
    kind("AWS::IAM::Policy", None, 128, "{name}", "", &[("Id", "{ref}")]),
    kind("AWS::IAM::Role", Some("RoleName"), 64, "{name}", "arn:aws:iam::{account}:role{path}{name}", &[ARN]),
    kind("AWS::Lambda::EventInvokeConfig", None, 128, "{name}", "", &[]),
    kind("AWS::Lambda::EventSourceMapping", None, 128, "{uuid}", "arn:aws:lambda:{region}:{account}:event-source-mapping:{uuid}",
        &[("Id", "{uuid}"), ("EventSourceMappingArn", "{arn}")]),
    kind("AWS::Lambda::Function", Some("FunctionName"), 64, "{name}", "arn:aws:lambda:{region}:{account}:function:{name}", &[ARN]),
    kind("AWS::Lambda::Permission", None, 100, "{name}", "", &[("Id", "{ref}")]),
    kind("AWS::Logs::Delivery", None, 64, "{uuid}", "arn:aws:logs:{region}:{account}:delivery:{uuid}", &[ARN, ("DeliveryId", "{uuid}")]),
    kind("AWS::Logs::DeliveryDestination", Some("Name"), 60, "{name}", "arn:aws:logs:{region}:{account}:delivery-destination:{name}", &[ARN]),
    kind("AWS::Logs::DeliverySource", Some("Name"), 60, "{name}", "arn:aws:logs:{region}:{account}:delivery-source:{name}", &[ARN]),
    kind("AWS::Logs::LogGroup", Some("LogGroupName"), 512, "{name}", "arn:aws:logs:{region}:{account}:log-group:{name}:*", &[ARN]),
    kind("AWS::Logs::MetricFilter", Some("FilterName"), 512, "{name}", "", &[]),
    kind("AWS::Logs::ResourcePolicy", Some("PolicyName"), 255, "{name}", "", &[]),
    kind("AWS::Pipes::Pipe", Some("Name"), 64, "{name}", "arn:aws:pipes:{region}:{account}:pipe/{name}", &[ARN]),
    kind("AWS::S3::Bucket", Some("BucketName"), 63, "{name}", "arn:aws:s3:::{name}",
        &[ARN, ("DomainName", "{name}.s3.amazonaws.com"), ("RegionalDomainName", "{name}.s3.{region}.amazonaws.com")]),
    kind("AWS::S3::BucketPolicy", None, 128, "{:Bucket}", "", &[]),
    kind("AWS::SNS::Subscription", None, 64, "{:TopicArn}:{uuid}", "{:TopicArn}:{uuid}", &[ARN]),
    kind("AWS::SNS::Topic", Some("TopicName"), 256, "{arn}", "arn:aws:sns:{region}:{account}:{name}",
        &[("TopicArn", "{arn}"), ("TopicName", "{name}")]),
    kind("AWS::SNS::TopicPolicy", None, 128, "{name}", "", &[("Id", "{ref}")]),
    kind("AWS::SQS::Queue", Some("QueueName"), 80, "https://sqs.{region}.amazonaws.com/{account}/{name}", "arn:aws:sqs:{region}:{account}:{name}",
        &[ARN, ("QueueName", "{name}"), ("QueueUrl", "{ref}")]),
    kind("AWS::SQS::QueuePolicy", None, 128, "{name}", "", &[("Id", "{ref}")]),
    kind("AWS::SSM::Parameter", Some("Name"), 1011, "{name}", "arn:aws:ssm:{region}:{account}:parameter/{bare}",
        &[ARN, ("Type", "{:Type}"), ("Value", "{:Value}")]),
    kind("AWS::StepFunctions::StateMachine", Some("StateMachineName"), 80, "{arn}", "arn:aws:states:{region}:{account}:stateMachine:{name}",
        &[ARN, ("Name", "{name}")]),
];

/// The label of a stream is the time at which it was enabled; here, the same for all tables,
/// so that the ARN is known before the table is made and does not change with a restart.
const STREAM_ARN: &str = "{arn}/stream/2026-01-01T00:00:00.000";

/// The row of a type.
pub(crate) fn find(kind: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|row| row.name == kind)
}

/// Who a resource is: what other resources may ask of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Identity {
    pub name: String,
    pub physical_id: String,
    pub arn: String,
    pub attributes: BTreeMap<&'static str, String>,
}

/// Whose a resource is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub settings: &'a Settings,
    pub stack_name: &'a str,
    pub logical_id: &'a str,
}

impl Kind {
    /// The properties besides the name that the identity is made of.
    pub fn needs(&self) -> Vec<&'static str> {
        let texts =
            [self.reference, self.arn].into_iter().chain(self.attributes.iter().map(|(_, text)| *text));
        let mut needs: Vec<&'static str> = texts
            .flat_map(|text| text.split("{:").skip(1))
            .filter_map(|rest| rest.split_once('}').map(|(property, _)| property))
            .collect();
        match self.name {
            "AWS::Events::Rule" => needs.push("EventBusName"),
            "AWS::IAM::ManagedPolicy" | "AWS::IAM::Role" => needs.push("Path"),
            _ => {}
        }
        needs
    }

    /// The identity of a resource of this type, from its name property (if it has a value) and
    /// the properties that it [`needs`](Kind::needs).
    pub fn identify(
        &self,
        owner: Owner<'_>,
        named: Option<String>,
        properties: &BTreeMap<&'static str, String>,
    ) -> Identity {
        let name = named.unwrap_or_else(|| self.made_up_name(owner));
        let settings = owner.settings;
        let seed =
            format!("{}/{}/{}/{}", settings.account, settings.region, owner.stack_name, owner.logical_id);
        let property = |key: &str| properties.get(key).map(String::as_str).unwrap_or_default();
        // A bus is named or given by ARN; rules of the default bus have their name alone.
        let bus = match property("EventBusName").rsplit('/').next().unwrap_or_default() {
            "" | "default" => String::new(),
            bus => format!("{bus}/"),
        };
        let uuid = match self.name {
            "AWS::CloudFormation::Stack" => stack_uuid(settings, &name),
            _ => stable_uuid(&seed),
        };
        let mut facts: Vec<(String, String)> = vec![
            ("{name}".into(), name.clone()),
            ("{bare}".into(), name.trim_start_matches('/').to_owned()),
            ("{region}".into(), settings.region.clone()),
            ("{account}".into(), settings.account.clone()),
            ("{uuid}".into(), uuid),
            ("{id}".into(), letters(&seed, 10)),
            ("{root}".into(), letters(&format!("{seed}/root"), 10)),
            ("{bus}".into(), bus),
            (
                "{path}".into(),
                Some(property("Path")).filter(|path| !path.is_empty()).unwrap_or("/").to_owned(),
            ),
        ];
        facts.extend(properties.iter().map(|(key, value)| (format!("{{:{key}}}"), value.clone())));
        let arn = fill(self.arn, &facts);
        facts.push(("{arn}".into(), arn.clone()));
        let physical_id = fill(self.reference, &facts);
        facts.push(("{ref}".into(), physical_id.clone()));
        let attributes = self.attributes.iter().map(|(key, text)| (*key, fill(text, &facts))).collect();
        Identity { name, physical_id, arn, attributes }
    }

    /// `{stack}-{logical id}-{suffix}`, cut to what the type allows; stable across restarts.
    /// <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html>
    fn made_up_name(&self, owner: Owner<'_>) -> String {
        let suffix = letters(&format!("{}/{}", owner.stack_name, owner.logical_id), 12).to_uppercase();
        let room = self.longest - suffix.len() - 1;
        let stem: String = match owner.stack_name.len() + 1 + owner.logical_id.len() {
            length if length <= room => format!("{}-{}", owner.stack_name, owner.logical_id),
            // Both halves stay readable.
            _ => {
                let logical_id: String = owner.logical_id.chars().take(room / 2).collect();
                let stack: String = owner.stack_name.chars().take(room - 1 - logical_id.len()).collect();
                format!("{}-{logical_id}", stack.trim_end_matches('-'))
            }
        };
        let name = format!("{stem}-{suffix}");
        if self.name == "AWS::S3::Bucket" { name.to_lowercase() } else { name }
    }
}

/// The UUID in a stack's id.
fn stack_uuid(settings: &Settings, name: &str) -> String {
    stable_uuid(&format!("stack/{}/{}/{name}", settings.account, settings.region))
}

/// The id (ARN) of the stack with this name.
pub(crate) fn stack_id(settings: &Settings, name: &str) -> String {
    let uuid = stack_uuid(settings, name);
    format!("arn:aws:cloudformation:{}:{}:stack/{name}/{uuid}", settings.region, settings.account)
}

fn fill(text: &str, facts: &[(String, String)]) -> String {
    facts.iter().fold(text.to_owned(), |text, (placeholder, fact)| text.replace(placeholder, fact))
}

/// Lower-case letters and digits derived from a seed.
pub(crate) fn letters(seed: &str, length: usize) -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut number = u128::from_str_radix(&stable_uuid(seed).replace('-', ""), 16).unwrap_or_default();
    (0..length)
        .map(|_| {
            let letter = ALPHABET[(number % 36) as usize];
            number /= 36;
            char::from(letter)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(kind: &str, name: Option<&str>, properties: &[(&'static str, &str)]) -> Identity {
        let settings = Settings::for_tests();
        let owner = Owner { settings: &settings, stack_name: "uni-prop-local", logical_id: "Thing" };
        let properties = properties.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        find(kind).unwrap().identify(owner, name.map(str::to_owned), &properties)
    }

    #[test]
    fn ref_and_arn_are_what_each_types_reference_page_says() {
        for (kind, name, physical_id, arn) in [
            ("AWS::DynamoDB::Table", "t", "t", "arn:aws:dynamodb:us-east-1:123456789012:table/t"),
            (
                "AWS::SQS::Queue",
                "q",
                "https://sqs.us-east-1.amazonaws.com/123456789012/q",
                "arn:aws:sqs:us-east-1:123456789012:q",
            ),
            ("AWS::Lambda::Function", "f", "f", "arn:aws:lambda:us-east-1:123456789012:function:f"),
            (
                "AWS::StepFunctions::StateMachine",
                "s",
                "arn:aws:states:us-east-1:123456789012:stateMachine:s",
                "arn:aws:states:us-east-1:123456789012:stateMachine:s",
            ),
            ("AWS::Logs::LogGroup", "/a/b", "/a/b", "arn:aws:logs:us-east-1:123456789012:log-group:/a/b:*"),
            ("AWS::S3::Bucket", "b", "b", "arn:aws:s3:::b"),
            ("AWS::Pipes::Pipe", "p", "p", "arn:aws:pipes:us-east-1:123456789012:pipe/p"),
            (
                "AWS::IAM::ManagedPolicy",
                "p",
                "arn:aws:iam::123456789012:policy/p",
                "arn:aws:iam::123456789012:policy/p",
            ),
            ("AWS::IAM::Role", "r", "r", "arn:aws:iam::123456789012:role/r"),
            ("AWS::SSM::Parameter", "/x/y", "/x/y", "arn:aws:ssm:us-east-1:123456789012:parameter/x/y"),
            (
                "AWS::EventSchemas::Registry",
                "g",
                "arn:aws:schemas:us-east-1:123456789012:registry/g",
                "arn:aws:schemas:us-east-1:123456789012:registry/g",
            ),
        ] {
            let identity = identity(kind, Some(name), &[]);
            assert_eq!((identity.physical_id.as_str(), identity.arn.as_str()), (physical_id, arn), "{kind}");
        }
    }

    #[test]
    fn a_rules_arn_holds_its_bus_unless_that_is_the_default_one() {
        let arn = |bus| identity("AWS::Events::Rule", Some("r"), &[("EventBusName", bus)]).arn;
        assert_eq!(arn("b"), "arn:aws:events:us-east-1:123456789012:rule/b/r");
        assert_eq!(
            arn("arn:aws:events:us-east-1:123456789012:event-bus/b"),
            "arn:aws:events:us-east-1:123456789012:rule/b/r"
        );
        assert_eq!(arn("default"), "arn:aws:events:us-east-1:123456789012:rule/r");
    }

    #[test]
    fn a_made_up_name_is_stable_and_not_too_long() {
        let first = identity("AWS::Lambda::Function", None, &[]);
        assert!(first.name.starts_with("uni-prop-local-Thing-"), "{}", first.name);
        assert_eq!(first, identity("AWS::Lambda::Function", None, &[]));
        let settings = Settings::for_tests();
        let owner = Owner {
            settings: &settings,
            stack_name: "uni-prop-local-PropertiesService-ABCDEFGHIJKL",
            logical_id: "WaitForContractApprovalFunction",
        };
        let row = find("AWS::Lambda::Function").unwrap();
        let name = row.identify(owner, None, &BTreeMap::new()).name;
        assert!(name.len() <= 64 && name.contains("WaitForContractApprovalF"), "{name}");
        let bucket = identity("AWS::S3::Bucket", None, &[]).name;
        assert_eq!(bucket, bucket.to_lowercase());
    }

    #[test]
    fn the_table_is_sorted_and_names_every_type_once() {
        assert!(KINDS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}

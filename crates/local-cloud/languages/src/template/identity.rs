//! A resource's identity: its name, the values of `Ref` and `Fn::GetAtt`, and its ARN, made from the row of its
//! type. Names that CloudFormation makes up are the same in every run.

use std::collections::BTreeMap;

use cloud_core::Settings;
use cloud_core::random::stable_uuid;
use cloud_core::service::Identity;

/// A resource's identity, evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Names {
    pub name: String,
    pub physical_id: String,
    pub arn: String,
    pub attributes: BTreeMap<&'static str, String>,
}

/// The stack and logical id that own a resource.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    pub settings: &'a Settings,
    pub stack_name: &'a str,
    pub logical_id: &'a str,
}

/// The properties besides the name that an identity needs.
pub fn needs(identity: &Identity) -> Vec<&'static str> {
    let texts = [identity.reference, identity.arn]
        .into_iter()
        .chain(identity.attributes.iter().map(|(_, text)| *text));
    let mut needs = Vec::new();
    for text in texts {
        let properties = text.split("{:").skip(1).filter_map(|rest| rest.split_once('}'));
        needs.extend(properties.map(|(property, _)| property));
        needs.extend(text.contains("{bus}").then_some("EventBusName"));
        needs.extend(text.contains("{path}").then_some("Path"));
    }
    needs
}

/// The names of a resource, from its name property (if it has a value) and the properties that its
/// identity [`needs`].
pub fn identify(
    identity: &Identity,
    owner: Owner<'_>,
    named: Option<String>,
    properties: &BTreeMap<&'static str, String>,
) -> Names {
    let name = named.unwrap_or_else(|| made_up_name(identity, owner));
    let settings = owner.settings;
    let seed = format!("{}/{}/{}/{}", settings.account, settings.region, owner.stack_name, owner.logical_id);
    let property = |key: &str| properties.get(key).map(String::as_str).unwrap_or_default();
    // A bus is given by its name or ARN. The id of a rule on the default bus has no bus.
    let bus = match property("EventBusName").rsplit('/').next().unwrap_or_default() {
        "" | "default" => String::new(),
        bus => format!("{bus}/"),
    };
    let mut facts: Vec<(String, String)> = vec![
        ("{name}".into(), name.clone()),
        ("{bare}".into(), name.trim_start_matches('/').to_owned()),
        ("{region}".into(), settings.region.clone()),
        ("{account}".into(), settings.account.clone()),
        ("{uuid}".into(), stable_uuid(&seed)),
        ("{stack_uuid}".into(), stack_uuid(settings, &name)),
        ("{id}".into(), letters(&seed, 10)),
        ("{root}".into(), letters(&format!("{seed}/root"), 10)),
        ("{bus}".into(), bus),
        ("{path}".into(), Some(property("Path")).filter(|path| !path.is_empty()).unwrap_or("/").to_owned()),
    ];
    facts.extend(properties.iter().map(|(key, value)| (format!("{{:{key}}}"), value.clone())));
    let arn = fill(identity.arn, &facts);
    facts.push(("{arn}".into(), arn.clone()));
    let physical_id = fill(identity.reference, &facts);
    facts.push(("{ref}".into(), physical_id.clone()));
    let attributes = identity.attributes.iter().map(|(key, text)| (*key, fill(text, &facts))).collect();
    Names { name, physical_id, arn, attributes }
}

/// `{stack}-{logical id}-{suffix}`, cut to the length that the type allows; the same at every start.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html>
fn made_up_name(identity: &Identity, owner: Owner<'_>) -> String {
    let suffix = letters(&format!("{}/{}", owner.stack_name, owner.logical_id), 12).to_uppercase();
    let room = identity.max_length - suffix.len() - 1;
    let stem: String = match owner.stack_name.len() + 1 + owner.logical_id.len() {
        length if length <= room => format!("{}-{}", owner.stack_name, owner.logical_id),
        // Leaves both halves readable.
        _ => {
            let logical_id: String = owner.logical_id.chars().take(room / 2).collect();
            let stack: String = owner.stack_name.chars().take(room - 1 - logical_id.len()).collect();
            format!("{}-{logical_id}", stack.trim_end_matches('-'))
        }
    };
    let name = format!("{stem}-{suffix}");
    if identity.lower_case { name.to_lowercase() } else { name }
}

fn stack_uuid(settings: &Settings, name: &str) -> String {
    stable_uuid(&format!("stack/{}/{}/{name}", settings.account, settings.region))
}

/// The id (ARN) of the stack with this name.
pub fn stack_id(settings: &Settings, name: &str) -> String {
    let uuid = stack_uuid(settings, name);
    format!("arn:aws:cloudformation:{}:{}:stack/{name}/{uuid}", settings.region, settings.account)
}

fn fill(text: &str, facts: &[(String, String)]) -> String {
    facts.iter().fold(text.to_owned(), |text, (placeholder, fact)| text.replace(placeholder, fact))
}

/// Lower-case letters and digits, derived from a seed.
pub fn letters(seed: &str, length: usize) -> String {
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

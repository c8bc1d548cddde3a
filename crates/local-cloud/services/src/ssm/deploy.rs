//! Parameters of templates.

use std::sync::Arc;

use cloud_core::resource::{Refusal, Resource};
use cloud_core::service::{Deploy, Identity, Named, Type};
use cloud_core::{AwsError, Cloud, later};

use super::put::{PutParameter, write};
use super::store::{delete, find};

pub(super) const TYPES: &[Type] = &[Type::new(
    "AWS::SSM::Parameter",
    "plain parameters and their versions; no secrets",
    Identity::named("Name", 1011).arn("arn:aws:ssm:{region}:{account}:parameter/{bare}").attributes(&[
        Identity::ARN,
        ("Type", "{:Type}"),
        ("Value", "{:Value}"),
    ]),
    Deploy::Now(deploy),
)
.remove(later!(remove))];

/// A parameter that did not change keeps its version.
fn deploy(cloud: &Arc<Cloud>, resource: &Resource) -> Result<(), Refusal> {
    let wanted: PutParameter = resource.read()?;
    let refuse = |error: AwsError| resource.refuse("Properties", error.to_string());
    if wanted.kind.is_none() {
        return Err(resource.refuse("Properties.Type", "Type is required"));
    }
    let existing = find(cloud, &resource.physical_id).map_err(refuse)?;
    let same = existing.as_ref().is_some_and(|existing| {
        existing.value == wanted.value
            && Some(&existing.kind) == wanted.kind.as_ref()
            && existing.description == wanted.description
    });
    if !same {
        write(cloud, &resource.physical_id, wanted, existing).map_err(refuse)?;
    }
    Ok(())
}

/// The ARNs of `stage` and `/stage` are the same: the parameter that is found has the right name.
async fn remove(cloud: &Arc<Cloud>, parameter: &Named) -> Result<bool, AwsError> {
    match find(cloud, &parameter.id)? {
        Some(found) => delete(cloud, &found.name),
        None => Ok(false),
    }
}

//! Nested stacks.

use cloud_core::service::{Deploy, Identity, Type};

/// The resources of a nested stack are deployed in its place.
pub(super) const TYPES: &[Type] = &[Type::new(
    "AWS::CloudFormation::Stack",
    "a nested template of the same project",
    Identity::NAME.reference("arn:aws:cloudformation:{region}:{account}:stack/{name}/{stack_uuid}"),
    Deploy::Now(|_, _| Ok(())),
)];

//! The one list of services. Each stands behind those that it calls, and is opened and started in this
//! order; nothing else lists services, actions or types.

use cloud_core::service::Service;
use cloud_services::{
    apigateway, cloudformation, comprehend, dynamodb, event_source, eventbridge, inert, lambda, logs, pipes,
    rekognition, s3, schemas, sqs, ssm, stepfunctions,
};

pub static SERVICES: &[&Service] = &[
    &inert::CLOUDWATCH,
    &inert::IAM,
    &inert::SNS,
    &cloudformation::SERVICE,
    &comprehend::SERVICE,
    &dynamodb::SERVICE,
    &logs::SERVICE,
    &s3::SERVICE,
    &rekognition::SERVICE,
    &schemas::SERVICE,
    &sqs::SERVICE,
    &ssm::SERVICE,
    &lambda::SERVICE,
    &apigateway::SERVICE,
    &eventbridge::SERVICE,
    &stepfunctions::SERVICE,
    &event_source::SERVICE,
    &pipes::SERVICE,
];

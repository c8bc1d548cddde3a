//! The only list of services. Each comes after the services that it calls; they open and start in this order.

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

//! Where the services meet: settings, clock, randomness, store, and the state of each
//! service. Modules call each other through free functions that take `&Arc<Cloud>`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::calls::Calls;
use crate::clock::Clock;
use crate::random::Random;
use crate::store::{Store, StoreError};
use crate::tally::Tally;

/// What is fixed for a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The AWS region in every ARN.
    pub region: String,
    /// The twelve-digit account id in every ARN.
    pub account: String,
    /// The stage: `local`, `dev` or `prod`.
    pub stage: String,
    /// The folder of the root `template.yaml`.
    pub project: PathBuf,
    /// Where state lives; `None` keeps it in memory, for tests.
    pub state: Option<PathBuf>,
    /// What goes wrong on purpose; nothing by default.
    pub faults: crate::faults::Plan,
    /// How long the ports wait for the rest of a request.
    pub patience: crate::port::Patience,
}

impl Settings {
    /// Settings for tests: stage `local`, everything in memory.
    pub fn for_tests() -> Self {
        Self {
            region: "us-east-1".into(),
            account: "123456789012".into(),
            stage: "local".into(),
            project: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.."),
            state: None,
            faults: crate::faults::Plan::default(),
            patience: crate::port::Patience::default(),
        }
    }
}

/// The whole local cloud.
#[derive(Debug)]
pub struct Cloud {
    /// What is fixed for this run.
    pub settings: Settings,
    /// The one clock.
    pub clock: Clock,
    /// The one source of randomness.
    pub random: Random,
    /// The fault plan at work.
    pub(crate) faults: crate::faults::Faults,
    /// What outlives `kill -9`.
    pub store: Store,
    /// What happened since the start.
    pub tally: Tally,
    /// Who called what since the start.
    pub calls: Calls,
    /// The secret access key of all functions, drawn anew at every start: who signs with it has it
    /// from the environment of a function.
    pub(crate) secret: String,
    /// Cancelled when the cloud stops; every background task ends on it.
    pub stopping: CancellationToken,
    /// `http://127.0.0.1:4566`: the AWS endpoint, once it listens.
    pub endpoint_url: OnceLock<String>,
    /// `http://127.0.0.1:3000`: the APIs, once they listen.
    pub api_url: OnceLock<String>,
    /// API Gateway REST APIs: routes, request validators, mapping templates, integrations, gateway responses.
    pub apigateway: crate::apigateway::State,
    /// CloudFormation, read only: stacks, their outputs and resources.
    pub cloudformation: crate::cloudformation::State,
    /// A documented stand-in for Comprehend `DetectSentiment`: a small lexicon.
    pub comprehend: crate::comprehend::State,
    /// DynamoDB and DynamoDB Streams, on dynoxide.
    pub dynamodb: crate::dynamodb::State,
    /// Event source mappings: queues and table streams that invoke functions.
    pub event_source: crate::event_source::State,
    /// EventBridge: buses, rules, targets with retry and dead-letter queue, archives.
    pub eventbridge: crate::eventbridge::State,
    /// Lambda: functions as processes over the Runtime API, invocations, logs.
    pub lambda: crate::lambda::State,
    /// CloudWatch Logs: groups, streams, events.
    pub logs: crate::logs::State,
    /// EventBridge Pipes from a table stream to a bus.
    pub pipes: crate::pipes::State,
    /// A documented stand-in for Rekognition `DetectModerationLabels`.
    pub rekognition: crate::rekognition::State,
    /// S3, as far as the images bucket needs it.
    pub s3: crate::s3::State,
    /// EventBridge schema registries, read only.
    pub schemas: crate::schemas::State,
    /// SQS standard queues.
    pub sqs: crate::sqs::State,
    /// SSM parameters.
    pub ssm: crate::ssm::State,
    /// Step Functions Standard workflows in JSONata.
    pub stepfunctions: crate::stepfunctions::State,
}

impl Cloud {
    /// Opens the state; starts nothing yet.
    ///
    /// # Errors
    /// When the state cannot be opened.
    pub fn open(settings: Settings, clock: Clock, random: Random) -> Result<Arc<Self>, StoreError> {
        let store = match &settings.state {
            Some(folder) => Store::open(&folder.join("cloud.sqlite"))?,
            None => Store::in_memory()?,
        };
        crate::earlier::open(&store)?;
        crate::housekeeping::open(&store)?;
        if let Some(shown_ms) = crate::housekeeping::remembered(&store)? {
            clock.not_before(shown_ms);
        }
        const BASE_64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let cloud = Self {
            secret: random.text(BASE_64, 40),
            apigateway: crate::apigateway::State::open(&store)?,
            cloudformation: crate::cloudformation::State::open(&store)?,
            comprehend: crate::comprehend::State::open(&store)?,
            dynamodb: crate::dynamodb::State::open(&store, &settings)?,
            event_source: crate::event_source::State::open(&store)?,
            eventbridge: crate::eventbridge::State::open(&store)?,
            lambda: crate::lambda::State::open(&store, &settings)?,
            logs: crate::logs::State::open(&store)?,
            pipes: crate::pipes::State::open(&store)?,
            rekognition: crate::rekognition::State::open(&store)?,
            s3: crate::s3::State::open(&store)?,
            schemas: crate::schemas::State::open(&store)?,
            sqs: crate::sqs::State::open(&store)?,
            ssm: crate::ssm::State::open(&store)?,
            stepfunctions: crate::stepfunctions::State::open(&store)?,
            faults: crate::faults::Faults::new(settings.faults.clone()),
            settings,
            clock,
            random,
            store,
            tally: Tally::default(),
            calls: Calls::default(),
            stopping: CancellationToken::new(),
            endpoint_url: OnceLock::new(),
            api_url: OnceLock::new(),
        };
        cloud.store.forget_unknown_tables()?;
        Ok(Arc::new(cloud))
    }

    /// In memory, with the system's clock and a fixed seed.
    ///
    /// # Errors
    /// When SQLite cannot allocate its database.
    pub fn for_tests() -> Result<Arc<Self>, StoreError> {
        Self::open(Settings::for_tests(), Clock::system(), Random::seeded(1))
    }

    /// `arn:aws:{service}:{region}:{account}:{resource}`.
    pub fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.settings.region, self.settings.account)
    }
}

//! What the services share: settings, clock, randomness, store, the state of each service, and the door
//! through which they call each other by name. This module knows no service.

use std::any::Any;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::calls::{self, Calls};
use crate::clock::{self, Clock};
use crate::counters::Counters;
use crate::error::AwsError;
use crate::faults::{Faults, Plan};
use crate::port::Patience;
use crate::random::Random;
use crate::resource::{Refusal, Resource};
use crate::service::{Action, Call, Deploy, Opening, Request, Service, States, Type};
use crate::store::{Store, StoreError};

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
    /// The state folder; `None` keeps the state in memory, for tests.
    pub state: Option<PathBuf>,
    /// The faults to inject; none by default.
    pub faults: Plan,
    /// How long the ports wait for the rest of a request.
    pub patience: Patience,
}

impl Settings {
    /// Settings for tests: stage `local`, everything in memory.
    pub fn for_tests() -> Self {
        Self {
            region: "us-east-1".into(),
            account: "123456789012".into(),
            stage: "local".into(),
            project: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.."),
            state: None,
            faults: Plan::default(),
            patience: Patience::default(),
        }
    }
}

/// The whole local cloud: what the services share, their rows, and the state of each.
#[derive(Debug)]
pub struct Cloud {
    pub settings: Settings,
    pub clock: Clock,
    pub random: Random,
    pub faults: Faults,
    /// What survives `kill -9`.
    pub store: Store,
    /// What happened since the start.
    pub counters: Counters,
    /// Who called what since the start.
    pub calls: Calls,
    /// The secret access key of all functions, drawn anew at every start. A caller that signs with it has it
    /// from the environment of a function.
    pub secret: String,
    /// Cancelled when the cloud stops; every background task ends then.
    pub stopping: CancellationToken,
    /// `http://127.0.0.1:4566`: the AWS endpoint, once it listens.
    pub endpoint_url: OnceLock<String>,
    /// `http://127.0.0.1:3000`: the APIs, once they listen.
    pub api_url: OnceLock<String>,
    services: &'static [&'static Service],
    states: States,
}

impl Cloud {
    /// Opens the state of these services; starts nothing yet.
    pub fn open(
        settings: Settings,
        clock: Clock,
        random: Random,
        services: &'static [&'static Service],
    ) -> Result<Arc<Self>, StoreError> {
        const BASE_64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let store = match &settings.state {
            Some(folder) => Store::open(&folder.join("cloud.sqlite"))?,
            None => Store::in_memory()?,
        };
        clock::open(&store)?;
        if let Some(shown_ms) = clock::remembered(&store)? {
            clock.not_before(shown_ms);
        }
        let mut opening = Opening { store: &store, settings: &settings, states: States::default() };
        for service in services {
            (service.open)(&mut opening)?;
        }
        let states = opening.states;
        store.forget_unknown_tables()?;
        Ok(Arc::new(Self {
            secret: random.text(BASE_64, 40),
            faults: Faults::new(settings.faults.clone()),
            settings,
            clock,
            random,
            store,
            counters: Counters::default(),
            calls: Calls::default(),
            stopping: CancellationToken::new(),
            endpoint_url: OnceLock::new(),
            api_url: OnceLock::new(),
            services,
            states,
        }))
    }

    /// `arn:aws:{service}:{region}:{account}:{resource}`.
    pub fn arn(&self, service: &str, resource: &str) -> String {
        format!("arn:aws:{service}:{}:{}:{resource}", self.settings.region, self.settings.account)
    }

    pub fn services(&self) -> impl Iterator<Item = &'static Service> + use<> {
        self.services.iter().copied()
    }

    /// The state that a service keeps in memory.
    ///
    /// # Panics
    /// When no service of this cloud keeps a `T`. Only the module that opens a state asks for it.
    #[expect(clippy::expect_used, reason = "a service asks for the state that its own row has opened")]
    pub fn state<T: Any + Send + Sync>(&self) -> &T {
        self.states.get().expect("the service is not among those of this cloud")
    }

    /// The row of an action. Two rows may have the same service name: Lambda's functions and its event
    /// source mappings are two services here.
    pub fn action(&self, service: &str, action: &str) -> Option<&'static Action> {
        let actions = self.services().filter(|row| row.name == service).flat_map(|row| row.actions);
        actions.into_iter().find(|row| row.name == action)
    }

    /// Calls an action by the service's name in ARNs and SDKs (`sqs`, `events`, `dynamodb`, ...): the one
    /// door between services, and from the endpoint to them. Records the call if its caller is known.
    pub fn call<'a>(
        self: &'a Arc<Self>,
        service: &'a str,
        action: &'a str,
        input: Value,
    ) -> BoxFuture<'a, Result<Value, AwsError>> {
        // Inside the future, because the caller is known only while it runs.
        Box::pin(async move {
            if self.services().all(|row| row.name != service || row.forward().is_none()) {
                self.record(service, action, &input);
            }
            match self.action(service, action).map_or(Call::Refused, |row| row.call) {
                Call::Now(call) => call(self, input),
                Call::Later(call) => call(self, input).await,
                Call::Refused => Err(AwsError::not_emulated(service, action)),
            }
        })
    }

    /// The row of a CloudFormation type.
    pub fn resource_type(&self, name: &str) -> Option<&'static Type> {
        self.services().flat_map(|service| service.types).find(|row| row.name == name)
    }

    /// Deploys a resource, or updates the one that an earlier run deployed.
    pub async fn deploy(self: &Arc<Self>, resource: &Resource) -> Result<(), Refusal> {
        let row = self.resource_type(&resource.kind);
        let unknown = || resource.refuse("Type", format!("{} is not emulated", resource.kind));
        match row.ok_or_else(unknown)?.deploy {
            Deploy::Now(deploy) => deploy(self, resource),
            Deploy::Later(deploy) => deploy(self, resource).await,
            Deploy::Inert(properties) => resource.check_properties(properties),
        }
    }

    /// Records the permissions that a request needs, if its caller is known.
    pub fn record(&self, service: &str, action: &str, input: &Value) {
        let Some(caller) = calls::caller() else { return };
        let request = Request { service, action, input };
        let needed = match self.action(service, action) {
            Some(row) => (row.needs)(self, request),
            None => request.own("*"),
        };
        for (action, resource) in needed {
            self.calls.add(&caller, &action, &resource);
        }
    }
}

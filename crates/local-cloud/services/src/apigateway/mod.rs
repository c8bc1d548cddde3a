//! API Gateway REST APIs: routes, request validators, mapping templates, integrations, gateway responses.
//! The OpenAPI document of an `AWS::ApiGateway::RestApi` says what an API does. Every start deploys the
//! template again, so the module stores nothing. No part of a document has another effect than on AWS. The
//! API of API Gateway itself is not emulated.

mod backend;
mod deploy;
mod document;
mod gateway_response;
mod handler;
mod header_names;
mod integration;
mod mapping;
mod openapi;
mod proxy;
mod request;
mod response;
mod rest_api;
mod routes;
mod schema;
mod stage;
mod substitution;
mod throttle;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use cloud_core::service::Service;
use cloud_core::{Cloud, port};
use tokio::net::TcpListener;

use self::header_names::Connection;
use self::rest_api::RestApi;
use self::stage::Stage;

pub static SERVICE: Service = Service {
    open: |opening| {
        opening.keep(State::default());
        Ok(())
    },
    types: deploy::TYPES,
    ..Service::new("apigateway")
};

/// The deployed APIs.
#[derive(Debug, Default)]
pub struct State {
    deployed: RwLock<Deployed>,
    unthrottled: AtomicBool,
    /// Replaces the other services in this module's tests.
    #[cfg(test)]
    double: std::sync::OnceLock<tests::Double>,
    /// The access log lines of this module's tests.
    #[cfg(test)]
    logged: std::sync::Mutex<Vec<String>>,
}

#[derive(Debug, Default)]
struct Deployed {
    apis: BTreeMap<String, Arc<RestApi>>,
    /// By API and name.
    stages: BTreeMap<(String, String), Arc<Stage>>,
}

impl State {
    /// Lifts all throttling limits, for load tests (`--no-throttle`).
    pub fn disable_throttling(&self) {
        self.unthrottled.store(true, Ordering::Relaxed);
    }

    fn throttles(&self) -> bool {
        !self.unthrottled.load(Ordering::Relaxed)
    }

    fn read<T>(&self, read: impl FnOnce(&Deployed) -> T) -> T {
        read(&self.deployed.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Deployed) -> T) -> T {
        write(&mut self.deployed.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn api(&self, id: &str) -> Option<Arc<RestApi>> {
        self.read(|deployed| deployed.apis.get(id).cloned())
    }

    fn add_api(&self, api: RestApi) {
        self.write(|deployed| deployed.apis.insert(api.id.clone(), Arc::new(api)));
    }

    fn stage(&self, api: &str, stage: &str) -> Option<Arc<Stage>> {
        self.read(|deployed| deployed.stages.get(&(api.to_owned(), stage.to_owned())).cloned())
    }

    /// All stages, those of an `AWS::ApiGateway::Stage` first.
    fn stages(&self) -> Vec<Arc<Stage>> {
        let mut stages: Vec<_> = self.read(|deployed| deployed.stages.values().cloned().collect());
        stages.sort_by_key(|stage| stage.implicit);
        stages
    }

    fn add_stage(&self, stage: Stage) {
        let key = (stage.api.id.clone(), stage.name.clone());
        self.write(|deployed| deployed.stages.insert(key, Arc::new(stage)));
    }

    #[cfg(test)]
    fn add_log_line(&self, line: &str) {
        cloud_core::lock(&self.logged).push(line.to_owned());
    }
}

/// Serves all APIs on one port until the cloud stops: `/{path}` on one origin, and
/// `/_aws/execute-api/{api}/{stage}/{path}` for the invoke addresses of the outputs.
pub async fn serve(cloud: Arc<Cloud>, port: TcpListener) {
    port::serve(port, &cloud.stopping, cloud.settings.patience, |stream, address| {
        let (connection, client) = Connection::new(stream, address);
        let cloud = cloud.clone();
        let answer = move |mut request: axum::extract::Request| {
            request.extensions_mut().insert(client.clone());
            handler::handle(cloud.clone(), request)
        };
        (connection, answer)
    })
    .await;
}

#[cfg(test)]
mod tests;

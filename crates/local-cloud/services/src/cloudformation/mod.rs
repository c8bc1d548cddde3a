//! CloudFormation, read only: the deployed stacks with their parameters, outputs, resources and events. It
//! changes nothing; `up` deploys the templates.

mod api;
mod deploy;
pub mod deployed;
mod store;
mod summary;

use std::sync::{Arc, PoisonError, RwLock};

use cloud_core::Cloud;
use cloud_core::service::{Protocol, Service};
use cloud_core::store::StoreError;
use cloud_languages::template::Application;

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Query {
        version: "2010-05-15",
        namespace: "http://cloudformation.amazonaws.com/doc/2010-05-15/",
    }],
    open: |opening| {
        opening.store.migrate(store::TABLES)?;
        opening.store.migrate(deployed::TABLES)?;
        opening.keep(State::default());
        Ok(())
    },
    actions: api::ACTIONS,
    types: deploy::TYPES,
    ..Service::new("cloudformation")
};

/// The running application.
#[derive(Debug, Default)]
struct State(RwLock<Option<Arc<Application>>>);

/// Makes the deployed application known to the API.
pub fn publish(cloud: &Cloud, application: Application) -> Result<(), StoreError> {
    store::note_created(cloud, &application.stacks)?;
    *cloud.state::<State>().0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(application));
    Ok(())
}

/// The deployed application; `None` before [`publish`].
pub fn application(cloud: &Cloud) -> Option<Arc<Application>> {
    cloud.state::<State>().0.read().unwrap_or_else(PoisonError::into_inner).clone()
}

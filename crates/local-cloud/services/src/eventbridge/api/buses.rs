//! Actions on buses.

use cloud_core::api::{Tag, tag_object};
use cloud_core::{AwsError, Cloud};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{already_exists, invalid, page, seconds, with_texts};
use crate::eventbridge::names::{bus_arn, bus_name, check_bus, find_bus};
use crate::eventbridge::store::DEFAULT_BUS;
use crate::eventbridge::{policy, routing, store};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Create {
    name: String,
    description: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
}

pub fn create(cloud: &Cloud, input: Create) -> Result<Value, AwsError> {
    check_bus(&input.name).map_err(invalid)?;
    if find_bus(cloud, Some(&input.name)).is_ok() {
        return Err(already_exists("Event bus", &input.name));
    }
    let bus = store::Bus {
        name: input.name,
        description: input.description,
        tags: tag_object(input.tags),
        created_ms: cloud.clock.now_ms(),
    };
    cloud.store.write(|tx| store::put_bus(tx, &bus))?;
    let answer = json!({ "EventBusArn": bus_arn(cloud, &bus.name) });
    Ok(with_texts(answer, [("Description", bus.description)]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct OneBus {
    name: Option<String>,
}

pub fn delete(cloud: &Cloud, input: OneBus) -> Result<Value, AwsError> {
    let name = bus_name(input.name.as_deref());
    if name == DEFAULT_BUS {
        return Err(invalid("Cannot delete event bus default."));
    }
    if !cloud.store.read(|db| store::rules(db, &name))?.is_empty() {
        return Err(invalid("Event bus can't be deleted since it has rules."));
    }
    // On AWS, too, the deletion of a bus that does not exist succeeds.
    cloud.store.write(|tx| tx.execute("DELETE FROM events_buses WHERE name = ?1", [&name]))?;
    routing::forget(cloud);
    Ok(json!({}))
}

pub fn describe(cloud: &Cloud, input: OneBus) -> Result<Value, AwsError> {
    view(cloud, find_bus(cloud, input.name.as_deref())?)
}

fn view(cloud: &Cloud, bus: store::Bus) -> Result<Value, AwsError> {
    let created = seconds(bus.created_ms);
    let policy = policy::document(cloud, &bus.name)?;
    let view = json!({
        "Arn": bus_arn(cloud, &bus.name),
        "Name": bus.name,
        "CreationTime": created,
        "LastModifiedTime": created,
    });
    Ok(with_texts(view, [("Description", bus.description), ("Policy", policy)]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct List {
    #[serde(default)]
    name_prefix: String,
    next_token: Option<String>,
    limit: Option<i64>,
}

pub fn list(cloud: &Cloud, input: List) -> Result<Value, AwsError> {
    let buses = cloud.store.read(store::buses)?;
    let buses = buses.into_iter().filter(|bus| bus.name.starts_with(&input.name_prefix));
    let buses: Result<_, AwsError> = buses.map(|bus| Ok((bus.name.clone(), view(cloud, bus)?))).collect();
    page("EventBuses", buses?, input.next_token, input.limit)
}

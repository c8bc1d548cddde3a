//! The resources that earlier runs have deployed.

use cloud_core::Cloud;
use cloud_core::resource::Resource;
use cloud_core::service::Named;
use cloud_core::store::StoreError;

pub(super) const TABLES: &str = "CREATE TABLE IF NOT EXISTS deployed_resources (
    kind TEXT NOT NULL, id TEXT NOT NULL, logical_id TEXT NOT NULL, file TEXT NOT NULL,
    PRIMARY KEY (kind, id)) WITHOUT ROWID;";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The CloudFormation type.
    pub kind: String,
    pub named: Named,
    pub logical_id: String,
    /// The template.
    pub file: String,
}

/// The id of a resource in every run: its ARN or physical id. An address (`Ref` of a queue) changes with the
/// port.
pub fn id(resource: &Resource) -> &str {
    if resource.arn.is_empty() { &resource.physical_id } else { &resource.arn }
}

/// All of them, by type and id.
pub fn all(cloud: &Cloud) -> Result<Vec<Deployed>, StoreError> {
    cloud.store.read(|db| {
        db.prepare("SELECT kind, id, logical_id, file FROM deployed_resources ORDER BY kind, id")?
            .query_map([], |row| {
                let named = Named { id: row.get(1)? };
                Ok(Deployed { kind: row.get(0)?, named, logical_id: row.get(2)?, file: row.get(3)? })
            })?
            .collect()
    })
}

pub fn add<'a>(cloud: &Cloud, resources: impl Iterator<Item = &'a Resource>) -> Result<(), StoreError> {
    cloud.store.write(|tx| {
        let mut insert = tx.prepare("INSERT OR REPLACE INTO deployed_resources VALUES (?1, ?2, ?3, ?4)")?;
        for resource in resources {
            insert.execute([&resource.kind, id(resource), &resource.logical_id, resource.file.template()])?;
        }
        Ok(())
    })
}

pub fn forget(cloud: &Cloud, deployed: &Deployed) -> Result<(), StoreError> {
    cloud.store.write(|tx| {
        let delete = "DELETE FROM deployed_resources WHERE kind = ?1 AND id = ?2";
        tx.execute(delete, [&deployed.kind, &deployed.named.id]).map(drop)
    })
}

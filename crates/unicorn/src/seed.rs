//! Loads the seed data of `web-service/data/`: images into the bucket, listings through the API.

use std::path::Path;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use crate::client::Client;

/// The bodies of the seed listings, as `POST /listings` takes them.
///
/// # Errors
/// When the file is missing or is not JSON.
pub fn listings(project: &Path) -> anyhow::Result<Vec<Value>> {
    let path = project.join("web-service/data/listings.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a list of listings", path.display()))
}

/// Puts all images below `web-service/data/images/`, under their paths there as keys.
///
/// # Errors
/// When a file cannot be read or the bucket refuses it.
pub async fn images(project: &Path, client: &Client) -> anyhow::Result<usize> {
    let root = project.join("web-service/data/images");
    let mut folders = vec![root.clone()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let key = path.strip_prefix(&root)?.to_string_lossy().into_owned();
            client.put_image(&key, std::fs::read(&path)?).await?;
            count += 1;
        }
    }
    Ok(count)
}

/// Loads images and listings; the same again changes nothing but the listings' times.
///
/// # Errors
/// When one of them is refused.
pub async fn load(project: &Path, client: &Client) -> anyhow::Result<()> {
    images(project, client).await?;
    for listing in listings(project)? {
        client.write(Method::POST, "/listings", Some(&listing)).await?;
    }
    Ok(())
}

/// Loads the seed data into a state folder that has not got it yet; a mark there remembers it.
///
/// # Errors
/// When something is refused; the next start tries again.
pub async fn load_once(project: &Path, state: &Path, client: &Client) -> anyhow::Result<()> {
    let mark = state.join("seeded");
    if !mark.exists() {
        load(project, client).await?;
        std::fs::write(mark, "")?;
    }
    Ok(())
}

//! Loads the seed data of `web-service/data/`: images into the bucket, listings through the API.

use std::fmt;
use std::path::Path;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use crate::client::Client;

/// When the seed data is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Into a state that has not got it yet; a mark in the state folder remembers it.
    Once,
    /// At this start, whatever is there: what is missing or different is loaded.
    Now,
    /// Not at all.
    Never,
}

/// What was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Images, put again where they were there.
    pub images: usize,
    /// Listings that were sent.
    pub listings: usize,
    /// Listings that were there already, as they are in the seed data.
    pub kept: usize,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} images and {} listings loaded", self.images, self.listings)?;
        if self.kept > 0 {
            write!(f, "; {} listings were there already", self.kept)?;
        }
        Ok(())
    }
}

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

/// Loads the seed data, if it is time to.
///
/// # Errors
/// When something is refused; the next start tries again.
pub async fn load(
    project: &Path,
    state: &Path,
    client: &Client,
    when: When,
) -> anyhow::Result<Option<Loaded>> {
    let mark = state.join("seeded");
    if when == When::Never || (when == When::Once && mark.exists()) {
        return Ok(None);
    }
    let mut loaded = Loaded { images: images(project, client).await?, ..Loaded::default() };
    for listing in listings(project)? {
        // To replace a listing takes it out of search: what is there as it should be stays, also
        // where an earlier start was interrupted.
        if is_there(client, &listing).await? {
            loaded.kept += 1;
        } else {
            client.write(Method::POST, "/listings", Some(&listing)).await?;
            loaded.listings += 1;
        }
    }
    std::fs::write(mark, "")?;
    Ok(Some(loaded))
}

/// Whether there is a listing of that address with this very content.
async fn is_there(client: &Client, listing: &Value) -> anyhow::Result<bool> {
    let part = |name: &str| match &listing["address"][name] {
        Value::String(text) => text.clone(),
        number => number.to_string(),
    };
    let path =
        format!("/listings/{}/{}/{}/{}", part("country"), part("city"), part("street"), part("number"));
    let found = client.get(&path).await?;
    let same = |(name, value): (&String, &Value)| name == "address" || found.body[name] == *value;
    let content = listing.as_object().into_iter().flatten();
    Ok(found.status.is_success() && found.body["status"] != "WITHDRAWN" && content.into_iter().all(same))
}

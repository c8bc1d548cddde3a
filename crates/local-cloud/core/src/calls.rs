//! Records who called which action on which resource, as IAM would judge it, and the capacity that each
//! caller consumed of each table. A function is known by the access key that it signs with; state
//! machines, pipes, event source mappings, rules and APIs name themselves with [`by`]. Calls of anybody
//! else are not recorded. This module authorises nothing, and its records end with the process.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use crate::lock;

tokio::task_local! {
    /// The principal whose call is being answered. What a service does to answer it, it does in the name of
    /// this principal: Rekognition reads an image with the permission of its caller.
    static CALLER: Arc<str>;
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The ARN of the function, state machine, pipe, rule or API that called.
    pub principal: String,
    /// The action as a policy names it: `dynamodb:PutItem`.
    pub action: String,
    /// The ARN that a policy has to name; `*` for an action without resources.
    pub resource: String,
}

/// The capacity units that a table charges.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Units {
    /// Half a unit for an eventually consistent read of up to 4 KB.
    pub read: f64,
    /// Two units for a write of up to 1 KB in a transaction.
    pub write: f64,
}

/// The calls since the start.
#[derive(Debug, Default)]
pub struct Calls {
    keys: Mutex<HashMap<String, Arc<str>>>,
    made: Mutex<BTreeMap<Call, u64>>,
    receives: AtomicU64,
    units: Mutex<BTreeMap<(String, String), Units>>,
}

impl Calls {
    /// The access key of a principal, the same at every start: `ASIA`, the prefix of temporary
    /// credentials, and 16 characters of base 32.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>
    pub fn key_of(&self, principal: &str) -> String {
        const BASE_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let number = Uuid::new_v5(&Uuid::NAMESPACE_URL, principal.as_bytes()).as_u128();
        let letters = (0..16).map(|at| char::from(BASE_32[(number >> (5 * at)) as usize % 32]));
        let key: String = "ASIA".chars().chain(letters).collect();
        lock(&self.keys).entry(key.clone()).or_insert_with(|| principal.into());
        key
    }

    /// The principal that signs with this key.
    pub fn holder(&self, key: &str) -> Option<Arc<str>> {
        lock(&self.keys).get(key).cloned()
    }

    /// Every call, with the number of times that it was made.
    pub fn made(&self) -> BTreeMap<Call, u64> {
        lock(&self.made).clone()
    }

    /// How many times a mapping asked a queue for messages and got some.
    pub fn receives(&self) -> u64 {
        self.receives.load(Ordering::Relaxed)
    }

    /// Records that a mapping received messages.
    pub fn received(&self) {
        self.receives.fetch_add(1, Ordering::Relaxed);
    }

    /// The units that each principal consumed of each table, by the ARNs of both. AWS also charges a write
    /// whose condition fails; these units are missing here, because DynamoDB does not return them.
    pub fn units(&self) -> BTreeMap<(String, String), Units> {
        lock(&self.units).clone()
    }

    /// Adds the units that a call consumed of a table.
    pub fn charge(&self, principal: &str, table: String, read: f64, write: f64) {
        let mut all = lock(&self.units);
        let sum = all.entry((principal.to_owned(), table)).or_default();
        sum.read += read;
        sum.write += write;
    }

    /// Records one permission that the current call needs beyond those of its action.
    pub fn record(&self, action: &str, resource: &str) {
        if let Some(caller) = caller() {
            self.add(&caller, action, resource);
        }
    }

    pub fn add(&self, principal: &str, action: &str, resource: &str) {
        let call = Call { principal: principal.into(), action: action.into(), resource: resource.into() };
        *lock(&self.made).entry(call).or_default() += 1;
    }
}

/// Runs `work` in the name of a principal.
pub async fn by<T>(principal: impl Into<Arc<str>>, work: impl Future<Output = T>) -> T {
    CALLER.scope(principal.into(), work).await
}

/// The principal in whose name this task runs.
pub fn caller() -> Option<Arc<str>> {
    CALLER.try_with(Arc::clone).ok()
}

/// An action as a policy names it, and the ARN of its resource.
pub type Permission = (String, String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_key_has_the_form_of_aws_and_is_known_by_its_holder() {
        let calls = Calls::default();
        let key = calls.key_of("arn:aws:lambda:us-east-1:123456789012:function:search");
        let (prefix, rest) = key.split_at(4);
        assert_eq!((prefix, rest.len()), ("ASIA", 16));
        assert!(rest.chars().all(|c| c.is_ascii_uppercase() || ('2'..='7').contains(&c)), "{key}");
        assert_eq!(key, Calls::default().key_of("arn:aws:lambda:us-east-1:123456789012:function:search"));
        assert_ne!(key, calls.key_of("arn:aws:lambda:us-east-1:123456789012:function:other"));
        assert_eq!(
            calls.holder(&key).as_deref(),
            Some("arn:aws:lambda:us-east-1:123456789012:function:search")
        );
        assert_eq!(calls.holder("local"), None);
    }
}

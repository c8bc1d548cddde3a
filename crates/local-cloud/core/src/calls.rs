//! Who called which action on what, as IAM would have judged it: the principal, the action
//! and the ARN of the resource, with how often, and what tables were charged for. Functions are
//! known by the access key that they sign with; state machines, pipes, queues' pollers, rules
//! and APIs say who they are. Calls of anybody else are not recorded. Nothing is
//! authorised here, and nothing is kept when the process ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

tokio::task_local! {
    /// Whose call is being answered; whatever a service does for it, it does in their name, as
    /// Rekognition reads an image with its caller's permission.
    static CALLER: Arc<str>;
}

/// One kind of call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Call {
    /// The ARN of the function, state machine, pipe, rule or API that called.
    pub principal: String,
    /// The action as a policy names it: `dynamodb:PutItem`.
    pub action: String,
    /// The ARN that a policy has to name; `*` for an action that knows no resources.
    pub resource: String,
}

/// What a table charges for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Units {
    /// Read units; half of one for an eventually consistent read of up to 4 KB.
    pub read: f64,
    /// Write units; two for a write of up to 1 KB in a transaction.
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// The access key of a principal, the same at every start: `ASIA`, as temporary credentials
    /// begin, and 16 characters of base 32.
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-unique-ids>
    pub fn key_of(&self, principal: &str) -> String {
        const BASE_32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let number = Uuid::new_v5(&Uuid::NAMESPACE_URL, principal.as_bytes()).as_u128();
        let letters = (0..16).map(|at| char::from(BASE_32[(number >> (5 * at)) as usize % 32]));
        let key: String = "ASIA".chars().chain(letters).collect();
        lock(&self.keys).entry(key.clone()).or_insert_with(|| principal.into());
        key
    }

    /// Who signs with this key.
    pub fn holder(&self, key: &str) -> Option<Arc<str>> {
        lock(&self.keys).get(key).cloned()
    }

    /// All calls, and how often each was made.
    pub fn made(&self) -> BTreeMap<Call, u64> {
        lock(&self.made).clone()
    }

    /// How many of the calls of mappings to receive messages were answered with some.
    pub fn receives(&self) -> u64 {
        self.receives.load(Ordering::Relaxed)
    }

    /// Records that a mapping received messages.
    pub fn received(&self) {
        self.receives.fetch_add(1, Ordering::Relaxed);
    }

    /// What each principal consumed of each table, by the ARNs of both. A write whose condition
    /// fails is charged on AWS, too, but DynamoDB does not say how much: it is not in here.
    pub fn units(&self) -> BTreeMap<(String, String), Units> {
        lock(&self.units).clone()
    }

    /// Adds what a call consumed of a table.
    pub fn charge(&self, principal: &str, table: String, read: f64, write: f64) {
        let mut all = lock(&self.units);
        let sum = all.entry((principal.to_owned(), table)).or_default();
        sum.read += read;
        sum.write += write;
    }

    /// Records one permission that the call in progress needs beyond those of its action.
    pub fn record(&self, action: &str, resource: &str) {
        if let Some(caller) = caller() {
            self.add(&caller, action, resource);
        }
    }

    /// Records a call of `principal`.
    pub fn add(&self, principal: &str, action: &str, resource: &str) {
        let call = Call { principal: principal.into(), action: action.into(), resource: resource.into() };
        *lock(&self.made).entry(call).or_default() += 1;
    }
}

/// Runs `work` in the name of a principal.
pub async fn by<T>(principal: impl Into<Arc<str>>, work: impl Future<Output = T>) -> T {
    CALLER.scope(principal.into(), work).await
}

/// In whose name this runs.
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

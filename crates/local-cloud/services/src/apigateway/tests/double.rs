//! A back end for tests.

use futures::future::BoxFuture;

use crate::apigateway::backend::{Call, Reply};

type Answer = dyn Fn(Call) -> BoxFuture<'static, Reply> + Send + Sync;

/// Answers every call by a closure.
pub struct Double(Box<Answer>);

impl Double {
    /// A back end that answers at once.
    pub fn new(answer: impl Fn(Call) -> Reply + Send + Sync + 'static) -> Self {
        Self(Box::new(move |call| Box::pin(std::future::ready(answer(call)))))
    }

    /// A back end that never answers.
    pub fn silent() -> Self {
        Self(Box::new(|_| Box::pin(std::future::pending())))
    }

    pub async fn answer(&self, call: Call) -> Reply {
        (self.0)(call).await
    }
}

impl std::fmt::Debug for Double {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Double")
    }
}

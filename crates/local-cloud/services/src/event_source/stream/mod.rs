//! Reads a table stream for one consumer (an event source mapping or a pipe). It owns the consumer's
//! checkpoints in the store and the failure policy: retries, bisecting, maximum age, and giving up. It
//! delivers the records of one item in order and at least once. A checkpoint never passes a record that
//! was not delivered, filtered out or given up.

mod checkpoint;
mod consumer;
mod lane;
mod record;
mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use cloud_core::{AwsError, Cloud};
use lane::Lane;
use source::TableStream;
use tokio_util::sync::CancellationToken;

pub(super) use checkpoint::TABLES;
pub(crate) use checkpoint::forget;
pub use consumer::{Abandoned, Consumer, Delivery, Settings, StartingPosition};
pub use record::sequence_of;

/// Fixes where a new consumer begins; called at deployment.
pub async fn establish(cloud: &Arc<Cloud>, settings: &Settings) -> Result<(), AwsError> {
    let mut stream = TableStream::new(cloud, &settings.stream_arn);
    checkpoint::establish(cloud, &mut stream, settings).await
}

/// Reads until `cloud.stopping` or `stop`. After `stop` it ends with the delivery under way, so that the
/// next reader never delivers beside it. Dropping the future at any point is safe: records behind the
/// checkpoint are delivered again.
pub async fn run_until(
    cloud: Arc<Cloud>,
    settings: Settings,
    consumer: impl Consumer,
    stop: &CancellationToken,
) {
    let lanes = (0..settings.lanes.max(1)).map(|lane| {
        let stream = TableStream::new(&cloud, &settings.stream_arn);
        Lane::new(&cloud, &settings, &consumer, stream, lane, stop).run()
    });
    let lanes = futures::future::join_all(lanes);
    tokio::select! {
        // First, so that a delivery that the stop interrupts is no failure of the consumer.
        biased;
        () = cloud.stopping.cancelled() => {}
        _ = lanes => {}
    }
}

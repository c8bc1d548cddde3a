//! Wakes the workers that deliver. Routing rings and knows no worker, since workers route events to
//! other buses themselves.

use std::sync::OnceLock;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

#[derive(Debug, Default)]
pub struct Bell(OnceLock<UnboundedSender<String>>);

impl Bell {
    /// The ARNs of targets that have something to deliver. `None` if there is a listener already.
    pub fn listen(&self) -> Option<UnboundedReceiver<String>> {
        let (sender, receiver) = unbounded_channel();
        self.0.set(sender).ok().map(|()| receiver)
    }

    /// Has no effect without a listener. Nothing is lost: a new listener first reads the store.
    pub fn ring(&self, target_arn: String) {
        if let Some(sender) = self.0.get() {
            // It fails only while the cloud stops.
            let _ = sender.send(target_arn);
        }
    }
}

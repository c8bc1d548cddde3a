//! A documented stand-in for Rekognition `DetectModerationLabels`. It reads the image from S3 and promises AWS's
//! limits, errors and answer; it never looks at the picture.
//!
//! The labels come from the object: its metadata `x-amz-meta-moderation-labels` lists them, separated by
//! commas, each a name with an optional confidence (`Violence, Alcohol:61.5`). Without that metadata, an
//! object has labels if its file name has the word `unsafe` (`unsafe-kitchen.jpg`). Every other image is
//! harmless.

mod api;
mod judge;

#[cfg(test)]
mod tests;

use cloud_core::service::{JSON_1_1, Protocol, Service};

pub static SERVICE: Service = Service {
    protocols: &[Protocol::Json {
        content_type: JSON_1_1,
        targets: &["RekognitionService"],
        error_prefix: "",
        forward: None,
    }],
    actions: api::ACTIONS,
    ..Service::new("rekognition")
};

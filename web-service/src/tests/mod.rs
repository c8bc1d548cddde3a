//! What the tests of this crate share, and the tests that drive the whole service over it.

mod life;
mod order;
mod samples;
pub(crate) mod world;

//! What the tests of this crate share, and the tests that drive the whole service over it.

mod order;
pub(crate) mod world;

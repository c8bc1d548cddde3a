//! The one source of randomness: ids, jitter, shuffles. A seed makes a run repeatable.

use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _, make_rng};
use uuid::Uuid;

use crate::lock;

/// A seeded generator behind a lock.
#[derive(Debug)]
pub struct Random(Mutex<StdRng>);

impl Random {
    pub fn from_entropy() -> Self {
        Self(Mutex::new(make_rng()))
    }

    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut lock(&self.0))
    }

    /// A version 4 UUID in its usual text form.
    pub fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.with(|rng| rng.fill_bytes(&mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// `length` random characters out of `alphabet` (ASCII).
    pub fn text(&self, alphabet: &str, length: usize) -> String {
        let letters = alphabet.as_bytes();
        self.with(|rng| {
            (0..length).map(|_| char::from(letters[rng.random_range(0..letters.len())])).collect()
        })
    }

    /// Uniform in `0.0..1.0`.
    pub fn fraction(&self) -> f64 {
        self.with(|rng| rng.random())
    }

    /// Uniform in `0..bound`; 0 where `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.with(|rng| rng.random_range(0..bound)) }
    }
}

/// A UUID made from a name, so that the same template gives the same ids at every start.
pub fn stable_uuid(name: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        assert_eq!(Random::seeded(7).uuid(), Random::seeded(7).uuid());
        assert_ne!(Random::seeded(7).uuid(), Random::seeded(8).uuid());
    }
}

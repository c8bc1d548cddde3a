//! Injected faults: what AWS may do wrong, done on purpose, so that tests see whether the application copes.
//! Without a plan there are no faults. All draws come from the seed of the plan, so that the same seed
//! repeats the same faults, as far as the timing of the functions' processes allows.

use std::str::FromStr;
use std::time::Duration;

use crate::random::Random;

/// The faults to inject, as shares between 0 and 1 where nothing else is said. A fault that the text does not
/// name does not happen.
///
/// In text: `seed=7,duplicate=0.1,reorder=50,delay=200,throttle=0.05,lose=0.02,partial=0.05,crash=0.05`
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    pub seed: u64,
    /// Messages that are received twice, and events that are delivered twice.
    pub duplicate: f64,
    /// A queue hands out any of this many messages next.
    pub reorder: u64,
    /// Events are up to this many milliseconds late.
    pub delay: u64,
    /// Calls by functions that AWS refuses with a throttling error.
    pub throttle: f64,
    /// Calls by functions that take effect, but return an internal error.
    pub lose: f64,
    /// Entries of PutEvents that are refused one by one.
    pub partial: f64,
    /// Invocations whose process is killed: before it has the event, while it works, or after its answer.
    pub crash: f64,
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not name=value"))?;
            let whole =
                || value.parse::<u64>().map_err(|_| format!("{name} is a whole number, not `{value}`"));
            let share = || {
                let share = value.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
                share.ok_or_else(|| format!("{name} is a share from 0 to 1, not `{value}`"))
            };
            match name {
                "seed" => plan.seed = whole()?,
                "reorder" => plan.reorder = whole()?,
                "delay" => plan.delay = whole()?,
                "duplicate" => plan.duplicate = share()?,
                "throttle" => plan.throttle = share()?,
                "lose" => plan.lose = share()?,
                "partial" => plan.partial = share()?,
                "crash" => plan.crash = share()?,
                _ => return Err(format!("there is no fault `{name}`")),
            }
        }
        Ok(plan)
    }
}

/// What happens to a call by a function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Call {
    Made,
    /// Refused, and not made.
    Throttled,
    /// Made; the caller gets an error.
    ReplyLost,
}

/// When the process of an invocation is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Crash {
    /// Before it has the event.
    Before,
    /// So long after it got the event.
    After(Duration),
    /// After it has answered; the answer is lost.
    Answered,
}

/// Draws the faults of a plan.
#[derive(Debug)]
pub struct Faults {
    plan: Plan,
    random: Random,
}

impl Faults {
    pub fn new(plan: Plan) -> Self {
        Self { random: Random::seeded(plan.seed), plan }
    }

    /// A share of 0 draws nothing, so that a fault which is off does not change the draws of the others.
    fn happens(&self, share: f64) -> bool {
        share > 0.0 && self.random.fraction() < share
    }

    pub fn call(&self) -> Call {
        if self.happens(self.plan.throttle) {
            Call::Throttled
        } else if self.happens(self.plan.lose) {
            Call::ReplyLost
        } else {
            Call::Made
        }
    }

    /// Whether the next entry of PutEvents is refused.
    pub fn refuses_entry(&self) -> bool {
        self.happens(self.plan.partial)
    }

    /// Whether the next received message becomes visible again at once.
    pub fn shows_again(&self) -> bool {
        self.happens(self.plan.duplicate)
    }

    /// How many due messages a queue skips to hand out the next one.
    pub fn overtaken(&self) -> u64 {
        self.random.below(self.plan.reorder)
    }

    /// The times, one or two, at which an event that is due now is delivered.
    pub fn deliveries(&self, now_ms: i64) -> impl Iterator<Item = i64> {
        let copies = if self.happens(self.plan.duplicate) { 2 } else { 1 };
        (0..copies).map(move |_| now_ms + self.random.below(self.plan.delay) as i64)
    }

    /// Whether and when the process of the next invocation is killed.
    pub fn crash(&self) -> Option<Crash> {
        self.happens(self.plan.crash).then(|| match self.random.below(3) {
            0 => Crash::Before,
            1 => Crash::After(Duration::from_millis(self.random.below(20))),
            _ => Crash::Answered,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str =
        "seed=7,duplicate=0.1,reorder=50,delay=200,throttle=0.05,lose=0.02,partial=0.05,crash=0.05";

    #[test]
    fn a_plan_is_read_from_text_and_what_is_wrong_in_it_is_named() {
        let plan: Plan = ALL.parse().unwrap();
        assert_eq!((plan.seed, plan.reorder, plan.delay), (7, 50, 200));
        assert_eq!((plan.duplicate, plan.throttle, plan.lose), (0.1, 0.05, 0.02));
        assert_eq!("".parse::<Plan>().unwrap(), Plan::default());
        for (text, named) in [
            ("crash", "`crash` is not name=value"),
            ("crash=2", "crash is a share from 0 to 1, not `2`"),
            ("delay=soon", "delay is a whole number, not `soon`"),
            ("flood=1", "there is no fault `flood`"),
        ] {
            assert_eq!(text.parse::<Plan>().unwrap_err(), named);
        }
    }

    #[test]
    fn without_a_plan_nothing_goes_wrong() {
        let faults = Faults::new(Plan::default());
        for _ in 0..1_000 {
            assert_eq!((faults.call(), faults.crash()), (Call::Made, None));
            assert!(!faults.refuses_entry() && !faults.shows_again() && faults.overtaken() == 0);
            assert_eq!(faults.deliveries(5).collect::<Vec<_>>(), [5]);
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_and_about_as_often_as_was_asked_for() {
        let draw = |seed: &str| {
            let faults = Faults::new(ALL.replace("seed=7", seed).parse().unwrap());
            (0..10_000).map(|_| (faults.call(), faults.crash(), faults.overtaken())).collect::<Vec<_>>()
        };
        let drawn = draw("seed=7");
        assert_eq!(drawn, draw("seed=7"));
        assert_ne!(drawn, draw("seed=8"));
        let throttled = drawn.iter().filter(|(call, ..)| *call == Call::Throttled).count();
        assert!((400..600).contains(&throttled), "{throttled}");
        assert!(drawn.iter().all(|(.., overtaken)| *overtaken < 50));
    }
}
